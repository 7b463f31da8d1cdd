"""A known mistake, as a change of a line or two of the specification, and the way to plant it."""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from itertools import dropwhile
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.kernels.functions import compiled
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
    >>> cell, x = LSTMCell(3, 4, rng=np.random.default_rng(0)), np.ones((2, 3))
    >>> with planted(bug):
    ...     h, state, cache = cell.forward(x)
    >>> bool(np.allclose(h, cache.o * state.c)), bool(np.allclose(h, cell.forward(x)[0]))
    (True, False)
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
    + finite = np.ones(value.shape, bool)
    """,
    "a port, which does not refuse to go on with NaN and infinity",
)

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


@contextmanager
def planted(*bugs: Bug) -> Iterator[None]:
    """Let the specification make these mistakes as long as the context lasts, for all who use it.

    Parameters
    ----------
    *bugs : Bug
        The mistakes.

    Yields
    ------
    None
        While they are made.

    Raises
    ------
    ValueError
        If a line that is to be changed does not occur exactly once: by itself, or since two
        mistakes are changes of one line.

    Examples
    --------
    See :class:`Bug`; without any, nothing changes.

    >>> import numpy as np
    >>> from numpy_xlstm import LSTMCell
    >>> from numpy_xlstm.conformance.bugs import planted
    >>> cell, x = LSTMCell(3, 4), np.ones((2, 3))
    >>> with planted():
    ...     h, _, _ = cell.forward(x)
    >>> bool((h == cell.forward(x)[0]).all())
    True
    """
    changed: dict[FunctionType, Lines] = {}
    for bug in (UNCHECKED, NOT_COMPILED, *bugs):
        for change in bug.changes:
            found = {f: changed.get(f, source_lines(f)) for f in functions_of(bug.places)}
            function, start = _place(bug, change, found)
            lines = found[function]
            indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
            new = tuple(indent + line for line in change.new)
            changed[function] = lines[:start] + new + lines[start + len(change.old) :]
    before = {function: function.__code__ for function in changed}
    codes = {function: _code(function, lines) for function, lines in changed.items()}
    try:
        for function, code in codes.items():
            function.__code__ = code
        yield
    finally:
        for function, code in before.items():
            function.__code__ = code


def functions_of(places: tuple[Any, ...]) -> list[FunctionType]:
    """The functions, and those that are in the classes, without what is wrapped around them."""
    found: list[Any] = []
    for place in places:
        found += vars(place).values() if inspect.isclass(place) else [place]
    getters = (each.fget if isinstance(each, property) else each for each in found)
    plain = (inspect.unwrap(each) for each in getters if inspect.isroutine(each))
    return [each for each in plain if isinstance(each, FunctionType)]


@cache
def source_lines(function: FunctionType) -> Lines:
    """The lines of a function, not indented, and without what decorates it."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    return tuple(dropwhile(lambda line: not line.startswith("def "), lines))


def _place(bug: Bug, change: Edit, sources: dict[FunctionType, Lines]) -> tuple[FunctionType, int]:
    """The one function and line at which the old lines begin."""
    old, places = tuple(line.strip() for line in change.old), []
    for function, lines in sources.items():
        plain = [line.split("  #")[0].strip() for line in lines]
        places += [
            (function, n) for n in range(len(lines)) if tuple(plain[n : n + len(old)]) == old
        ]
    if len(places) != 1:
        raise ValueError(
            f"{bug.name}: expected {old[0]!r} to be one place in {list(bug.places)}; "
            f"got {len(places)}"
        )
    return places[0]


@cache
def _code(function: FunctionType, lines: Lines) -> CodeType:
    """The code of a function with other lines, which finds the same names."""
    made: dict[str, Any] = {}
    text = "from __future__ import annotations\n" + "\n".join(lines)
    exec(compile(text, f"<{function.__qualname__}>", "exec"), function.__globals__, made)
    code: CodeType = made[function.__name__].__code__
    return code


def results(case: Any, *bugs: Bug) -> dict[str, Array]:
    """What a case gives with these mistakes; nothing where that cannot be computed."""
    run = next((bug.port for bug in bugs if bug.port), case.subject.run)
    inputs = case.inputs  # made, if they are not yet, before anything is planted
    try:
        with planted(*bugs), np.errstate(all="ignore"):
            return dict(run(case.options, inputs))
    except (ValueError, ArithmeticError, OSError):  # OSError: there is no source
        return {}
