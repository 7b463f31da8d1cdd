"""A known mistake, as a change of a line or two of the specification, and the way to plant it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.conformance.bugs.copies import Copy, Original, source_lines
from numpy_xlstm.numerics import Array, check_array

Lines = tuple[str, ...]


class Edit(NamedTuple):
    """Neighbouring lines, and what stands in their place."""

    old: Lines
    new: Lines


class Bug(NamedTuple):
    """A known mistake.

    Attributes
    ----------
    name : str
        Such as ``normaliser-constant``.
    subjects : tuple[str, ...]
        The subjects in which it is made: patterns, such as ``slstm.*``.
    places : tuple
        The functions and classes in which the lines stand.
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
    """The functions and classes in which the lines stand."""
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
        parts: list[tuple[list[str], list[str]]] = [([], [])]
        for line in self.change.strip().splitlines():
            sign, _, text = line.strip().partition(" ")
            if not sign or (sign == "-" and parts[-1][1]):
                parts.append(([], []))
            if sign:
                parts[-1][sign == "+"].append(text)
        return [Edit(tuple(old), tuple(new)) for old, new in parts if old]


UNCHECKED = Bug(
    "unchecked",
    (),
    (check_array,),
    """
    - finite = np.isfinite(value)
    + return array
    """,
    "a port, which does not refuse to go on with NaN and infinity",
)


def planted(*bugs: Bug) -> Copy:
    """Return a private copy of the package in which these mistakes are made.

    A copy does not refuse NaN and infinity either, as ports do not.

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
        If a line that is to be changed does not occur exactly once: by itself, or since two
        mistakes are changes of one line.

    Examples
    --------
    See :class:`Bug`; without any mistake the numbers are those of the package.

    >>> import numpy as np
    >>> from numpy_xlstm import LSTMCell
    >>> from numpy_xlstm.conformance.bugs import planted
    >>> cell, x = LSTMCell(3, 4), np.ones((2, 3))
    >>> copy = planted().of(LSTMCell)(3, 4).with_params(cell.params)
    >>> bool((copy.forward(x)[0] == cell.forward(x)[0]).all())
    True
    """
    return _planted(bugs)


@lru_cache(maxsize=128)
def _planted(bugs: tuple[Bug, ...]) -> Copy:
    original = _planted(()) if bugs else Original()
    changed: dict[str, list[str]] = {}
    for bug in bugs or (UNCHECKED,):
        for place in bug.places:
            name = place.__module__
            changed.setdefault(name, [*(original.changed.get(name) or source_lines(name))])
        for change in bug.changes:
            lines, at = _place(bug, change, changed)
            indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
            new = "".join(f"{indent}{line}\n" for line in change.new)
            lines[at : at + len(change.old)] = [new, *[""] * (len(change.old) - 1)]
    return Copy(original, changed)


def _place(bug: Bug, change: Edit, sources: dict[str, list[str]]) -> tuple[list[str], int]:
    """Return the lines of a module, and the one at which the old lines begin."""
    old, found = [line.strip() for line in change.old], []
    for place in bug.places:
        lines, span = sources[place.__module__], _span(place)
        plain = [line.split("  #")[0].strip() for line in lines[span]]
        starts = [n for n in range(len(plain)) if plain[n : n + len(old)] == old]
        found += [(lines, span.start + n) for n in starts]
    if len(found) != 1:
        raise ValueError(
            f"{bug.name}: expected {old[0]!r} to be one place in {list(bug.places)}; "
            f"got {len(found)}"
        )
    return found[0]


@cache
def _span(place: Any) -> slice:
    """Return where the lines of a function or class are in its module."""
    lines, number = inspect.getsourcelines(inspect.unwrap(place))
    return slice(number - 1, number - 1 + len(lines))


def results(case: Any, *bugs: Bug) -> dict[str, Array]:
    """What a case gives with these mistakes; nothing where that cannot be computed."""
    port = next((bug.port for bug in bugs if bug.port), None)
    inputs = case.inputs
    try:
        copy = planted(*bugs)
        with np.errstate(all="ignore"):
            return dict((copy.of(port) or _subject(copy, case.subject).run)(case.options, inputs))
    except (ValueError, ArithmeticError, OSError):  # OSError: there is no source
        return {}


def _subject(copy: Copy, subject: Any) -> Any:
    """Return a subject with the classes and functions of a copy."""
    parts = {each.name: copy.of(getattr(subject, each.name)) for each in fields(subject)}
    return copy.of(type(subject))(**parts)
