"""Known mistakes as changes of a few lines of the specification, and seeding of them."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.conformance.bugs.copies import Copy, source
from numpy_xlstm.kernels.functions import compiles
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.arrays import ANY_NUMBERS

Options = Mapping[str, Any]
Arrays = dict[str, Array]
Run = Callable[[Options, Arrays], Arrays]
"""Function that computes results from options and inputs."""
Around = Callable[[Run, Options, Arrays], Arrays]
"""Function that computes the results of a port from those of the specification."""
Edit = tuple[list[str], list[str]]
"""Consecutive lines, and the lines that replace them."""

KERNELS = "numpy_xlstm.kernels."
CELL = re.compile(r"numpy_xlstm\.cells\.(?!unroll)")
"""Modules of cells. If no other module is changed, only the cell is taken from the copy."""
DOCSTRING = re.compile(r'"""[\s\S]*?"""')


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
        Old lines after "- " and new lines after "+ ", without comments such as the tags of
        equations. A line without a sign replaces the line that assigns the same names.
    description : str
        Phrase for a port with this mistake, which completes "the numbers are those of …".
    seen_in : tuple[str, ...]
        Packages in which it was found.
    port : callable, optional
        Function that computes the results from options and inputs instead of the specification.
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
    places: tuple[Any, ...]
    change: str
    description: str
    seen_in: tuple[str, ...] = ()
    port: Run | None = None
    around: Around | None = None

    def concerns(self, subject: str) -> bool:
        """Return whether the mistake is possible in a subject."""
        return any(fnmatchcase(subject, pattern) for pattern in self.subjects)

    @property
    def changes(self) -> list[Edit]:
        """Parts of the change, each with old and new lines."""
        edits: list[Edit] = [([], [])]
        for line in map(str.strip, self.change.strip().splitlines()):
            old, new = edits[-1]
            sign, _, text = line.partition(" ")
            if sign == "-":
                if new:
                    edits.append((old := [], []))
                old.append(text)
            elif sign == "+":
                if new and not old:
                    edits.append(([], new := []))
                new.append(text)
            else:  # it replaces the line that assigns the same names
                edits.append(([], [line]))
        return [(old, new) for old, new in edits if old or new]


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
    """Return a private copy of the package with these mistakes, which shares all other code.

    Raise ``ValueError`` if the lines to change are not exactly once in the modules of their places.
    """
    in_kernels = any(place.__module__.startswith(KERNELS) for bug in bugs for place in bug.places)
    return Copy(texts(*bugs, kernels=in_kernels))


def texts(*bugs: Bug, kernels: bool) -> dict[str, str]:
    """Return the new text of each changed module. With ``kernels``, kernels are not compiled."""
    changed: dict[str, str] = {}
    for bug in (*bugs, NOT_COMPILED) if kernels else bugs:
        for name, lines, at, old, new in edits(bug, changed):
            indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
            lines[at : at + len(old)] = [indent + line for line in new]
            changed[name] = "\n".join(lines)
    return changed


def edits(
    bug: Bug, changed: Mapping[str, str]
) -> Iterator[tuple[str, list[str], int, list[str], list[str]]]:
    """Yield a module, its lines, the number of the first old line, the old lines and the new ones.

    ``changed`` has the texts of modules that are changed already.
    """
    for old, new in bug.changes:
        stripped, places = [line.strip() for line in old or new], []
        for name in {place.__module__ for place in bug.places}:
            text = changed.get(name, source(name))
            code = DOCSTRING.sub(lambda match: "\n" * match[0].count("\n"), text).split("\n")
            plain = [line.split("  #")[0].strip() for line in code]
            if not old:
                plain = [line.partition(" = ")[0] for line in plain]
                stripped = [new[0].partition(" = ")[0]]
            starts = [n for n in range(len(plain)) if plain[n : n + len(stripped)] == stripped]
            places += [(name, text.split("\n"), n) for n in starts]
        if len(places) != 1:
            raise ValueError(
                f"{bug.name}: expected {stripped[0]!r} once in the modules of "
                f"{list(bug.places)}; got it {len(places)} times"
            )
        name, lines, at = places[0]
        indent = len(lines[at]) - len(lines[at].lstrip())
        before = [line[indent:].split("  #")[0] for line in lines[at : at + len(stripped)]]
        yield name, lines, at, before, new


def results(case: Any, *bugs: Bug) -> dict[str, Array]:
    """Return the results of a case with these mistakes; {} if they cannot be computed."""
    case.inputs  # noqa: B018 - first, so that an error in the inputs is not caught below
    try:
        copy = planted(*(bug for bug in bugs if bug.change))
    except (ValueError, OSError):  # two mistakes in one line; the source is missing
        return {}
    return run(case, copy, bugs)


def run(case: Any, copy: Copy, bugs: tuple[Bug, ...]) -> dict[str, Array]:
    """Return the results of a case in a copy of the package; {} if they cannot be computed.

    The mistakes are in the copy, except those at the interface.
    """
    inputs = case.inputs  # first, while numbers are still validated
    port = next((bug.port for bug in bugs if bug.port), None)

    def inside(options: Options, inputs: Arrays) -> Arrays:
        if port:
            return dict(copy.of(port)(options, inputs))
        if all(map(CELL.match, copy.changed)):
            cell = copy.of(case.subject.specification)
            return dict(case.subject.run(options, inputs, cell))
        return dict(_subject(copy, case.subject).run(options, inputs))

    computed = inside
    for bug in bugs:
        if bug.around:
            computed = partial(bug.around, computed)
    before = ANY_NUMBERS.set(True)
    try:
        with np.errstate(all="ignore"):
            return computed(case.options, inputs)
    except Exception:  # a wrong line may raise anything
        return {}
    finally:
        ANY_NUMBERS.reset(before)


def _subject(copy: Copy, subject: Any) -> Any:
    """Return a subject with the classes and functions of a copy."""
    parts = {each.name: copy.of(getattr(subject, each.name)) for each in fields(subject)}
    return copy.of(type(subject))(**parts)
