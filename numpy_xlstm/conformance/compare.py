"""Comparison of the results of a port with a case, as one row for each tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import distance, is_gradient
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.inside import INSIDE
from numpy_xlstm.errors import ShapeError, printable
from numpy_xlstm.gradcheck.axes import Axes

STEPS = "steps."
"""Start of the names of results of a trace that are computed token by token."""
ONE_WAY = (
    "each result was checked once: if the port computes whole prompts and token by token in two "
    "ways, it returns steps.y, steps.final.… too"
)
HIDDEN = (
    "known mistakes that change no result by more than its bound, so a pass does not exclude them: "
)
MOST_NAMES = 120
"""Number of characters for the names of wrong tensors, with commas."""


@dataclass(frozen=True)
class Row:
    """Result of the comparison of one tensor.

    Attributes
    ----------
    case, tensor : str
        Id of the case and name of the tensor.
    ratio : float
        Largest quotient of an error and its bound. At most 1 if the tensor is correct; infinite if
        it cannot be compared.
    note : str
        Description of the error, with the gate, head, row and step of the first wrong entry.
    at : tuple[int, ...]
        Index of the first wrong entry.
    """

    case: str
    tensor: str
    ratio: float
    note: str = ""
    at: tuple[int, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the tensor is correct."""
        return self.ratio <= 1


def compare(case: CaseData, results: Mapping[str, Any]) -> list[Row]:
    """Compare all results with a case; missing and unknown results also get a row.

    A port need not return the tensors ``inside.…`` of a trace. Results ``steps.…`` are compared
    with those without this prefix.

    Parameters
    ----------
    case : Case
        The case, with exact results and bounds.
    results : Mapping[str, np.ndarray]
        Names and results of a port, in the shapes of ``case.expected``.

    Returns
    -------
    list[Row]
        Row for each tensor, passed or failed.

    Examples
    --------
    >>> from numpy_xlstm import conformance
    >>> case = conformance.cases("lstm.step", "float64")[0]
    >>> results = case.results()
    >>> del results["dx"]
    >>> [(row.tensor, row.note) for row in compare(case, results) if not row.passed]
    [('dx', 'expected float64 (3, 5); got none')]
    """
    if not isinstance(results, Mapping):
        raise ShapeError(f"results: expected a mapping of arrays; got {type(results).__name__}")
    for name, array in results.items():
        if hasattr(array, "__array__") and not isinstance(array, np.ndarray | np.generic):
            got = f"{type(array).__module__.partition('.')[0]}.{type(array).__name__}"
            torch = hasattr(array, "detach")
            how = "result.detach().cpu().numpy()" if torch else "np.asarray(result)"
            return [Row(case.id, name, np.inf, f"expected NumPy arrays; got {got}: return {how}")]
    results = case.widened(results)
    asked = [n for n in case.expected if n in results or not n.startswith(INSIDE)]
    rows = [_row(case, name, results.get(name)) for name in asked]
    if case.options.get("steps"):
        stepwise = {n.removeprefix(STEPS): a for n, a in results.items() if n.startswith(STEPS)}
        results = {n: a for n, a in results.items() if not n.startswith(STEPS)}
        again = compare(case.forward, stepwise) if stepwise else []
        rows += [replace(row, tensor=f"{STEPS}{row.tensor}") for row in again]
    unknown = sorted(results.keys() - case.expected.keys())
    note = "expected no tensor of this name"
    return rows + [Row(case.id, name, np.inf, note) for name in unknown]


def _row(case: CaseData, name: str, found: Any) -> Row:
    """Describe the number of wrong entries of a tensor, their common place, and the first one."""
    expected, got = case.expected[name], type(found).__name__
    if type(found) is np.ndarray:
        got = f"{found.dtype} {found.shape}"
    if got != f"{expected.dtype} {expected.shape}":
        wanted = f"{' or '.join(case.dtypes)} {expected.shape}"
        got = "none" if found is None else got
        shape = getattr(found, "shape", expected.shape)
        same = [n for n, a in case.expected.items() if a.shape == shape != expected.shape]
        hint = f", the shape of {listed(same)}" if same else ""
        if shape != expected.shape and sorted(shape) == sorted(expected.shape):
            hint = ", the same axes in another order"
        return Row(case.id, name, np.inf, f"expected {wanted}; got {got}{hint}")
    with np.errstate(over="ignore"):
        ratios = distance(found, expected) / case.bounds[name]
    if not (ratios > 1).any():
        return Row(case.id, name, float(ratios.max(initial=0)))
    wrong = [tuple(map(int, index)) for index in np.argwhere(ratios > 1)]
    places, first = Axes(name, found.shape, case.pattern(name)), wrong[0]
    right, other = _apart(expected[first], found[first])
    share = f"{len(wrong)} of {found.size} entries{places.in_common(wrong)}"
    note = f"{share}; first {places.describe(first)}: expected {right}; got {other}"
    return Row(case.id, name, float(ratios.max()), note, first)


def _apart(expected: Any, got: Any) -> tuple[str, str]:
    """Format two numbers with nine digits, or with seventeen if nine are the same."""
    short = f"{expected:.9g}", f"{got:.9g}"
    return short if short[0] != short[1] else (f"{expected:.17g}", f"{got:.17g}")


def listed(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Join names with commas up to a length, followed by the number of the rest."""
    shown = list(names)
    while shown[1:] and len(", ".join(shown)) > most:
        shown.pop()
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" … and {more} more" if more else "")


def departures(checked: Sequence[tuple[CaseData, Sequence[Row]]]) -> list[str]:
    """Return in which part a port departs first, and in which tensors, first those inside it.

    A part has its own exact input, so that an error in it is no consequence of another part.
    """
    wrong = [(case, rows) for case, rows in checked if not _right(rows)]
    if not wrong:
        once = any(c.options.get("steps") and not _stepwise(rows) for c, rows in checked)
        counts = [f"{c.options['hidden']} in {c.id}" for c, _ in checked if "hidden" in c.options]
        return [ONE_WAY] * once + ([HIDDEN + listed(counts)] if counts else [])
    case, rows = wrong[0]
    part = f"{case.id} ({case.subject.name})"
    others = [other.id for other, _ in wrong[1:] if other.id != "model"]
    also = f"; {', '.join(others)} {'have' if others[1:] else 'has'} errors too" if others else ""
    if case.id == "model":
        ids = listed([other.id for other, rows in checked if _right(rows)])
        also = "; none of its parts was checked and is right"
        if ids:
            also = f"; right are {ids}: if these are all its parts, the port joins them "
            also += "differently, or their errors below the bounds add up"
    if case.id == "embedding" and any(row.at for row in rows):
        also += "; an embedding only copies rows: verify --checkpoint PATH says if PATH is "
        also += "what was traced"
    stepwise = _stepwise(rows)
    if _right(whole := [row for row in rows if row not in stepwise]):
        rows = stepwise
        also = "; the whole prompt is right, so the step or the passing of states is wrong" + also
    elif stepwise:
        rows = whole
        also = f"; token by token is {'right' if _right(stepwise) else 'wrong, too'}{also}"
    names = [row.tensor for row in rows if not row.passed]
    if not any(names):
        return [f"the port has no results for {part}{also}"]
    names.sort(key=lambda n: (is_gradient(n), INSIDE not in n, n.removeprefix(STEPS) == "y"))
    return [f"the port departs first in {part}: {listed(names)}{_inside(case, rows)}{also}"]


def _right(rows: Sequence[Row]) -> bool:
    return all(row.passed for row in rows)


def _stepwise(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of results that were computed token by token."""
    return [row for row in rows if row.tensor.startswith(STEPS)]


def _inside(case: CaseData, rows: Sequence[Row]) -> str:
    """Return which tensor within a block is the first wrong one."""
    expected = [name for name in case.expected if name.startswith(INSIDE)]
    by_name = {row.tensor.removeprefix(STEPS): row for row in rows}
    absent = [name for name in expected if name not in by_name]
    if absent == expected:
        return "; the port gives no tensors inside it, which would show more" if expected else ""
    wrong = [by_name[n] for n in expected if n in by_name and not by_name[n].passed]
    if f"{INSIDE}z_pre" in expected:  # h is fed back, so that the earliest step decides
        wrong.sort(key=lambda row: row.at[1:2])
    text = "the tensors inside it are right"
    text = f"the first wrong tensor is {wrong[0].tensor}" if wrong else text
    return f"; {text}" + (f", and not given are {listed(absent)}" if absent else "")


def table(rows: list[Row]) -> str:
    """Format rows as lines with aligned columns."""
    head = ("case", "tensor", "error/bound", "")
    texts = [(row.case, row.tensor, f"{row.ratio:.3g}", row.note) for row in rows]
    cells = [tuple(map(printable, each)) for each in texts]
    columns = list(zip(head, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    widths[1] = min(widths[1], 24)  # a longer name of a tensor moves the rest of its line
    lines = [zip(line, widths, strict=True) for line in (head, *cells)]
    return "\n".join("  ".join(t.ljust(w) for t, w in line).rstrip() for line in lines)
