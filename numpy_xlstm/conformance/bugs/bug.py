"""A known mistake, as a change of a line or two of the specification, and the way to plant it."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.conformance.bugs.copies import Copy, source
from numpy_xlstm.kernels.functions import compiled
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.arrays import ANY_NUMBERS

Edit = tuple[list[str], list[str]]
"""Neighbouring lines, and the lines in their place."""


KERNELS = "numpy_xlstm.kernels."


class Bug(NamedTuple):
    """A known mistake.

    Attributes
    ----------
    name : str
        Such as ``normaliser-constant``.
    subjects : tuple[str, ...]
        The subjects in which it is made: patterns, such as ``slstm.*``.
    places : tuple
        The functions and classes in which the lines are; each line is once in their modules.
    change : str
        Old lines behind "- ", and new ones behind "+ ", without the tags.
    description : str
        What has this mistake: it completes "the numbers are those of …".
    flags : tuple[str, ...]
        Those of the cases that must show it; options count too, as ``eps=0.75``.
    seen_in : tuple[str, ...]
        Where it was found.
    port : callable, optional
        What gives results from options and inputs, where that is not the specification.

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
    """The subjects in which it is made: patterns, such as ``slstm.*``."""
    places: tuple[Any, ...]
    """The functions and classes in which the lines are; each line is once in their modules."""
    change: str
    """Old lines behind "- ", and new ones behind "+ ", without the tags."""
    description: str
    """What has this mistake: it completes "the numbers are those of …"."""
    flags: tuple[str, ...] = ()
    """Those of the cases that must show it; options count too, as ``eps=0.75``."""
    seen_in: tuple[str, ...] = ()
    """Where it was found."""
    port: Callable[[Mapping[str, Any], dict[str, Array]], dict[str, Array]] | None = None
    """What gives results from options and inputs, where that is not the specification."""

    def concerns(self, subject: str) -> bool:
        """Whether it is made in a subject."""
        return any(fnmatchcase(subject, pattern) for pattern in self.subjects)

    @property
    def changes(self) -> list[Edit]:
        """The change, part by part."""
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
    (compiled,),
    """
    - if dtype not in (np.float32, np.float64) or os.environ.get("NUMPY_XLSTM_COMPILED") == "0":
    + if True:
    """,
    "kernels whose source is run, so that a change of a line changes what they compute",
)


@lru_cache(maxsize=128)
def planted(*bugs: Bug) -> Copy:
    """Return a private copy of the package in which these mistakes are made.

    Parameters
    ----------
    *bugs : Bug
        The mistakes.

    Returns
    -------
    Copy
        Its ``of`` returns the copy's class or function for one of the package.

    Raises
    ------
    ValueError
        If the lines that are to be changed do not occur exactly once in the modules of their
        places: by themselves, or since two mistakes are changes of one line.

    Examples
    --------
    See :class:`Bug`; what no mistake reaches is shared with the package.

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
    """What a case gives with these mistakes; nothing where that cannot be computed."""
    port = next((bug.port for bug in bugs if bug.port), None)
    inputs = case.inputs  # made, if they are not yet, before any number is accepted
    before = ANY_NUMBERS.set(True)
    try:
        copy = planted(*bugs)
        run = copy.of(port) or _subject(copy, case.subject).run
        with np.errstate(all="ignore"):
            return dict(run(case.options, inputs))
    except (ValueError, ArithmeticError, OSError):  # OSError: there is no source
        return {}
    finally:
        ANY_NUMBERS.reset(before)


def _subject(copy: Copy, subject: Any) -> Any:
    """Return a subject with the classes and functions of a copy."""
    parts = {each.name: copy.of(getattr(subject, each.name)) for each in fields(subject)}
    return copy.of(type(subject))(**parts)
