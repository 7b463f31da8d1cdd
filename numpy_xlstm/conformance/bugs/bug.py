"""Known mistakes as changes of a few lines of the specification, and seeding of them."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.conformance.copies import Copy, source
from numpy_xlstm.conformance.subjects import Options
from numpy_xlstm.numerics import Array, Arrays

Run = Callable[[Options, Arrays], Arrays]
"""Function that computes results from options and inputs."""
Around = Callable[[Run, Options, Arrays], Arrays]
"""Function that computes the results of a port from those of the specification."""

KERNELS = "numpy_xlstm.kernels."
MATRIX = f"{KERNELS}mlstm."
"""Modules whose changes are run by what users call, as the specification goes step by step."""
CELL = re.compile(r"numpy_xlstm\.cells\.(?!unroll)")
"""Modules of cells. If no other module is changed, only the cell is taken from the copy."""
PARTS = re.compile(r"((?:[-=] .*\n)+)((?:\+ .*\n)*)|(.+)\n")
DOCSTRING = re.compile(r'"""[\s\S]*?"""')


class Bug(NamedTuple):
    """A known mistake.

    Attributes
    ----------
    name : str
        Name such as ``normaliser-constant``.
    subjects : tuple[str, ...]
        Subjects in which it is possible, as patterns such as ``slstm.*``.
    code : tuple
        Functions and classes with the lines; each line must occur once in their modules.
    change : str
        Old lines after "- " and new lines after "+ ", without comments such as the tags of
        equations. A line after "= " is an old one that stays. A line without a sign
        replaces the line that assigns the same names.
    description : str
        Phrase for a port with this mistake, which completes "the numbers are those of …".
    seen_in : tuple[str, ...]
        Packages in which it was found.
    around : callable, optional
        For a mistake that changes no line: a function that computes the results from a function
        that computes those of the specification, options and inputs.

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
    code: tuple[Any, ...]
    change: str
    description: str
    seen_in: tuple[str, ...] = ()
    around: Around | None = None

    def concerns(self, subject: str) -> bool:
        """Return whether the mistake is possible in a subject."""
        return any(fnmatchcase(subject, pattern) for pattern in self.subjects)

    @property
    def changes(self) -> list[tuple[list[str], list[str]]]:
        """Consecutive old lines and the new ones in their place, for each part of the change."""
        text = "".join(f"{line.strip()}\n" for line in self.change.strip().splitlines())
        edits = list[tuple[list[str], list[str]]]()
        for olds, news, line in PARTS.findall(text):
            old = [each[2:] for each in olds.splitlines()]
            new = [each[2:] for each in olds.splitlines() if each[0] == "="]
            new += [each[2:] for each in news.splitlines()]
            edits.append(([], [line]) if line else (old, new))
        return edits


NOT_COMPILED: dict[str, Any] = {f"{KERNELS}functions:compiles": lambda: False}
"""Function with which the source of kernels is run, so that changes of its lines have effects."""


@lru_cache(maxsize=128)
def planted(*bugs: Bug) -> Copy:
    """Return a private copy of the package with these mistakes, which shares all other code.

    Raise ``ValueError`` if the lines to change are not exactly once in the modules of their code.
    """
    in_kernels = any(owner.__module__.startswith(KERNELS) for bug in bugs for owner in bug.code)
    return Copy(texts(*bugs), functions=NOT_COMPILED if in_kernels else {})


def texts(*bugs: Bug) -> dict[str, str]:
    """Return the new text of each changed module."""
    changed: dict[str, str] = {}
    for bug in bugs:
        for name, text, *_ in edits(bug, changed):
            changed |= {name: text}
    return changed


def edits(bug: Bug, changed: Mapping[str, str]) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Yield a module, its new text, the old lines and the new ones, for each part of the change.

    ``changed`` has the texts of modules that are changed already.
    """
    for old, new in bug.changes:
        wanted = [line.strip() for line in old]
        assigned = (new or old)[0].partition(" = ")[0] + " = "
        found = []
        for name in {owner.__module__ for owner in bug.code}:
            text = changed.get(name, source(name))
            for at, line in enumerate(stripped := _stripped(text)):
                if stripped[at : at + len(old)] == wanted if old else line.startswith(assigned):
                    found.append((name, text.split("\n"), at))
        if len(found) != 1:
            raise ValueError(
                f"{bug.name}: expected {(old or new)[0]!r} once in the modules of "
                f"{list(bug.code)}; got it {len(found)} times"
            )
        ((name, lines, at),) = found
        end = at + len(old or [assigned])
        indent = lines[at][: -len(lines[at].lstrip())]
        before = [line.removeprefix(indent).split("  #")[0] for line in lines[at:end]]
        after = [*lines[:at], *(indent + line for line in new), *lines[end:]]
        yield name, "\n".join(after), before, new


@lru_cache(maxsize=64)
def _stripped(text: str) -> list[str]:
    """Return the lines of a module without indentation, comments and docstrings."""
    code = DOCSTRING.sub(lambda docstring: "\n" * docstring[0].count("\n"), text)
    return [line.split("  #")[0].strip() for line in code.split("\n")]


def results(case: Any, *bugs: Bug, copy: Copy | None = None) -> dict[str, Array]:
    """Return the results of a case with these mistakes; {} if they cannot be computed.

    If there is a ``copy`` of the package, it has the changed lines.
    """
    inputs = case.inputs
    try:
        copy = copy or planted(*(bug for bug in bugs if bug.change))
        run = partial(_run, copy, case.subject)
        for around in filter(None, (bug.around for bug in bugs)):
            run = partial(around, run)
        with np.errstate(all="ignore"):
            return run(case.options, inputs)
    except Exception:  # two mistakes in one line; no source; a wrong line may raise anything
        return {}


def _run(copy: Copy, subject: Any, options: Options, inputs: Arrays) -> Arrays:
    """Return the results of a subject in a copy of the package."""
    if all(map(CELL.match, copy.changed)):
        return dict(subject.run(options, inputs, copy.of(subject.specification)))
    if subject.public and any(module.startswith(MATRIX) for module in copy.changed):
        public = replace(subject, public=copy.of(subject.public))
        return dict(public.run_public(options, inputs))
    parts = {each.name: copy.of(getattr(subject, each.name)) for each in fields(subject)}
    return dict(copy.of(type(subject))(**parts).run(options, inputs))
