"""Known mistakes as changes of a few lines of the specification, and seeding of them."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.conformance.bugs.copies import Copy, source
from numpy_xlstm.kernels.functions import compiles
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.arrays import ANY_NUMBERS

Edit = tuple[list[str], list[str]]
"""Consecutive lines, and the lines that replace them."""


KERNELS = "numpy_xlstm.kernels."


class Bug(NamedTuple):
    """A known mistake.

    Attributes
    ----------
    name : str
        Name such as ``normaliser-constant``.
    subjects : tuple[str, ...]
        Subjects in which it is possible, as patterns such as ``slstm.*``.
    places : tuple
        Functions and classes with the lines; each line must occur once in their modules.
    change : str
        Old lines after "- " and new lines after "+ ", without tags.
    description : str
        Port with this mistake; completes "the numbers are those of …".
    flags : tuple[str, ...]
        Flags, or options such as ``eps=0.75``, of cases that must fail.
    seen_in : tuple[str, ...]
        Packages in which it was found.
    port : callable, optional
        Function that computes the results from options and inputs instead of the specification.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import LSTMCell
    >>> from numpy_xlstm.conformance.bugs import Bug, planted
    >>> bug = Bug("tanh-missing", ("lstm.*",), (LSTMCell,), '''
    ...     - h = o * np.tanh(c)
    ...     + h = o * c
    ...     ''', "an LSTM without the tanh of the output")
    >>> cell = planted(bug).of(LSTMCell)(3, 4, rng=np.random.default_rng(0))
    >>> h, state, cache = cell.forward(np.ones((2, 3)))
    >>> bool(np.allclose(h, cache.o * state.c))
    True
    """

    name: str
    subjects: tuple[str, ...]
    """Subjects in which it is possible, as patterns such as ``slstm.*``."""
    places: tuple[Any, ...]
    """Functions and classes with the lines; each line must occur once in their modules."""
    change: str
    """Old lines after "- " and new lines after "+ ", without tags."""
    description: str
    """Port with this mistake; completes "the numbers are those of …"."""
    flags: tuple[str, ...] = ()
    """Flags, or options such as ``eps=0.75``, of cases that must fail."""
    seen_in: tuple[str, ...] = ()
    """Packages in which it was found."""
    port: Callable[[Mapping[str, Any], dict[str, Array]], dict[str, Array]] | None = None
    """Function that computes the results from options and inputs instead of the specification."""

    def concerns(self, subject: str) -> bool:
        """Return whether the mistake is possible in a subject."""
        return any(fnmatchcase(subject, pattern) for pattern in self.subjects)

    @property
    def changes(self) -> list[Edit]:
        """Parts of the change, each with old and new lines."""
        parts: list[Edit] = [([], [])]
        for line in self.change.strip().splitlines():
            sign, _, text = line.strip().partition(" ")
            if not sign or (sign == "-" and parts[-1][1]):
                parts.append(([], []))
            if sign:
                parts[-1][sign == "+"].append(text)
        return [(old, new) for old, new in parts if old]


NOT_COMPILED = Bug(
    "not-compiled",
    (),
    (compiles,),
    """
    - if os.environ.get("NUMPY_XLSTM_COMPILED") == "0":
    + if True:
    """,
    "kernels whose source is run, so that a change of a line changes what they compute",
)


@lru_cache(maxsize=128)
def planted(*bugs: Bug) -> Copy:
    """Return a private copy of the package with these seeded mistakes.

    Parameters
    ----------
    *bugs : Bug
        The mistakes.

    Returns
    -------
    Copy
        Copy whose ``of`` returns the copy of a class or function.

    Raises
    ------
    ValueError
        If the lines to change do not occur exactly once in the modules of their places, for
        example because two mistakes change the same line.

    Examples
    --------
    See :class:`Bug`. Code that no mistake affects is shared with the package.

    >>> from numpy_xlstm import LSTMCell
    >>> from numpy_xlstm.conformance.bugs import planted
    >>> planted().of(LSTMCell) is LSTMCell
    True
    """
    changed: dict[str, str] = {}
    in_kernels = any(place.__module__.startswith(KERNELS) for bug in bugs for place in bug.places)
    for bug in (*bugs, NOT_COMPILED) if in_kernels else bugs:
        for old, new in bug.changes:
            name, lines, at = _place(bug, old, changed)
            indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
            lines[at : at + len(old)] = [indent + line for line in new]
            changed[name] = "\n".join(lines)
    return Copy(changed)


def _place(bug: Bug, old: list[str], changed: dict[str, str]) -> tuple[str, list[str], int]:
    """Return a module, its lines, and the number of the first old line among them."""
    old, found = [line.strip() for line in old], []
    for name in {place.__module__ for place in bug.places}:
        lines = changed.get(name, source(name)).split("\n")
        plain = [line.split("  #")[0].strip() for line in lines]
        starts = [n for n in range(len(plain)) if plain[n : n + len(old)] == old]
        found += [(name, lines, n) for n in starts]
    if len(found) != 1:
        raise ValueError(
            f"{bug.name}: expected {old[0]!r} to be one place in the modules of "
            f"{list(bug.places)}; got {len(found)}"
        )
    return found[0]


def results(case: Any, *bugs: Bug) -> dict[str, Array]:
    """Return the results of a case with these mistakes; {} if they cannot be computed."""
    port = next((bug.port for bug in bugs if bug.port), None)
    inputs = case.inputs  # first, because these are validated
    before = ANY_NUMBERS.set(True)
    try:
        copy = planted(*bugs)
        run = copy.of(port) or _subject(copy, case.subject).run
        with np.errstate(all="ignore"):
            return dict(run(case.options, inputs))
    except (ValueError, ArithmeticError, OSError):  # OSError: the source is missing
        return {}
    finally:
        ANY_NUMBERS.reset(before)


def _subject(copy: Copy, subject: Any) -> Any:
    """Return a subject with the classes and functions of a copy."""
    parts = {each.name: copy.of(getattr(subject, each.name)) for each in fields(subject)}
    return copy.of(type(subject))(**parts)
