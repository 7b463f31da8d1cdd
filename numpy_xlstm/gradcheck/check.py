"""The check of a backward: its idea, and what each further part adds.

The idea: in a random direction v, with a random cotangent ȳ, the difference of the outputs and the
gradient tell the same slope, ⟨ȳ, J v⟩ = ⟨Jᵀȳ, v⟩.

>>> def agree(forward, backward, x, rng, h=1e-6):
...     y, cache = forward(x)
...     dy, v = rng.standard_normal(y.shape), rng.standard_normal(x.shape)
...     dx = backward(dy, cache)
...     moved = (forward(x + h * v)[0] - forward(x - h * v)[0]) / (2 * h)
...     return bool(np.isclose((dy * moved).sum(), (dx * v).sum(), rtol=1e-6))
>>> def cube(x):
...     return x**3, x
>>> x, rng = np.array([1.0, 2.0, 3.0]), np.random.default_rng(0)
>>> agree(cube, lambda dy, x: 3 * x**2 * dy, x, rng)
True
>>> agree(cube, lambda dy, x: 3 * x**2 * dy * [1, 1.001, 1], x, rng)
False

``reference.py`` adds a slope of 15 digits, ``compare.py`` the entry that is wrong, ``problem.py``
parameters and states, and ``contract.py`` rules for a backward. This file adds further points, at
which no factor is 0 or 1, and notes on what they cannot tell.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from numpy_xlstm.gradcheck.compare import (
    UNCHECKED,
    adjoint_rows,
    differences_agree,
    specification_rows,
    tensor_rows,
)
from numpy_xlstm.gradcheck.contract import contract_rows
from numpy_xlstm.gradcheck.problem import Problem
from numpy_xlstm.gradcheck.reference import NOT_ANALYTIC, Point
from numpy_xlstm.gradcheck.report import Report, Row
from numpy_xlstm.gradcheck.target import is_floating, same
from numpy_xlstm.numerics import (
    Array,
    Arrays,
    checked_above_zero,
    checked_positive,
    checked_whole,
    own_error_state,
)

SUSPECT = (
    "finite differences agree where the complex step does not: is the forward analytic as written? "
    f"{NOT_ANALYTIC} are not; branch on the real part, and write a square as x * x"
)
ROUNDED = (
    "the forward rounds {} to float32 or a narrower dtype; let it compute in the dtype of "
    "its arguments, because references are in float64"
)
PARAMS_UNREAD = (
    "the forward gives the same outputs with other parameters: does it read them from self.params? "
    "if not, define with_params(params), which returns the same layer over other arrays"
)

ONLY_HERE = (
    "the backward is right at your parameters and wrong near them: does it forget a factor that is "
    "1 there, or rely on symmetry?"
)
FEW = 2
"""Number of directions at other parameters. A mistake shows in almost every direction."""


@own_error_state
def gradcheck(
    target: Any,
    *inputs: Any,
    rng: np.random.Generator | int | None = None,
    rtol: float | None = None,
    max_entries: int = 64,
    directions: int = 8,
) -> Report:
    """Check a backward against derivatives of its forward.

    For random cotangents ȳ on every output and every part of the final state, the backward must
    give g = ∂⟨ȳ, outputs⟩/∂tensor for every parameter, every input and every part of the initial
    state. The reference ĝ is the complex step, Im f(x + ih)/h, exact to rounding. If the forward
    does not accept complex numbers, it is central finite differences with Richardson extrapolation.
    The check compares g with ĝ

    - for each tensor, entry by entry or along random directions;
    - for all tensors at once, along random directions v: ⟨ȳ, J v⟩ = ⟨g, v⟩, the adjoint identity.

    It also tests that the backward is linear in ȳ, for very large and small ȳ too.

    If a forward takes a state, and you give none, or one at which some gradients are zero, it is
    also checked from a state that it returned: an empty state may multiply wrong terms by zero. The
    adjoint identity of a layer is also checked near its parameters, because a backward that forgets
    a factor is right where the factor is 1. The layer is not changed.

    Parameters
    ----------
    target : layer or (forward, backward)
        Either an object whose ``params`` is a mapping of arrays, or a tuple of two functions. The
        functions may take several inputs; their backward returns one gradient for each input, and
        no ``grads``. There are two protocols::

            y, cache        = forward(x)           dx, grads          = backward(dy, cache)
            y, state, cache = forward(x, state)    dx, dstate0, grads = backward(dy, cache, dstate)

        A layer is evaluated at other parameters with its ``with_params(params)``, or else with a
        copy whose ``params`` is replaced. Its optional attribute ``tensor_axes`` gives names to
        entries: ``{"W": "(gate=ifzo unit) input"}``. Its optional attribute ``specification`` is
        a simpler layer with the same parameters, such as an unrolled cell, that must give the same
        outputs and gradients.
    *inputs : array or nested tuple of arrays
        Arguments of the forward, of any shape: x, and a state if its gradient is to be checked. The
        forward gets copies. Inputs and parameters share one dtype: float32, float64 or longdouble.
        Integers have no gradient.
    rng : np.random.Generator or int, optional
        Generator for cotangents and directions, or its seed, which the report shows.
    rtol : float, optional
        Tolerance with the complex step, and of the linearity, instead of 1e-12 (1e-4 for float32).
    max_entries, directions : int
        Tensors of up to ``max_entries`` entries are checked entry by entry, larger ones along
        ``directions`` random directions.

    Returns
    -------
    Report
        Has ``passed`` and ``max_error``; ``str(report)`` is a table. The check passes if no row
        fails and each tensor has a row that is ok; see :class:`~numpy_xlstm.gradcheck.Row`.

    Raises
    ------
    TypeError
        If the target does not follow a protocol.

    Examples
    --------
    A wrong entry in a backward is detected and located:

    >>> def forward(x):
    ...     return x**3, x
    >>> def backward(dy, x):
    ...     return 3 * x**2 * dy * [1, 1 + 1e-6, 1]
    >>> report = gradcheck((forward, backward), np.array([1.0, 2.0, 3.0]), rng=0)
    >>> report.failures[0].note.split(":")[0]
    '1 of 3 entries; worst at [1]'
    """
    checked_positive("directions", directions)
    checked_whole("max_entries", max_entries)
    if rtol is not None:
        checked_above_zero("rtol", rtol)
    drawn = rng is None or isinstance(rng, np.random.Generator)
    seed = int(np.random.default_rng(rng).integers(2**63)) if drawn else checked_whole("rng", rng)
    generator, notes = np.random.default_rng(seed), list[str]()

    def check(
        problem: Problem, directions: int = directions, *, each_tensor: bool = True
    ) -> list[Row]:
        return _rows(Point(problem, generator, max_entries, directions), rtol, notes, each_tensor)

    problem = Problem(target, inputs)
    rows = check(problem)
    notes += _coincidences(problem.inputs)
    broken = any(row.method == "contract" for row in rows)
    vacuous = any(row.status == "vacuous" for row in rows)
    if not broken and (problem.state == "none" or (problem.state == "given" and vacuous)):
        problem = problem.from_returned_state()
        rows += check(problem)
    if problem.has_params and not _failing(rows):
        rows += _at_other_params(problem, generator, check, notes)
    return Report(tuple(rows), seed, tuple(dict.fromkeys(filter(None, notes))))


def _at_other_params(
    problem: Problem,
    rng: np.random.Generator,
    check: Callable[..., list[Row]],
    notes: list[str],
) -> list[Row]:
    """Check the adjoint identity near the parameters, and everything if it fails there."""
    try:
        problem = problem.from_other_params(rng)
    except Exception as error:  # a forward under test may raise anything
        notes.append(f"not checked at other parameters: {type(error).__name__}: {error}")
        return []
    rows = check(problem, FEW, each_tensor=False)
    if _failing(rows):
        rows = check(problem)
        notes.append(ONLY_HERE)
    place = "at other parameters"
    return [replace(row, note=f"{place}; {row.note}" if row.note else place) for row in rows]


def _failing(rows: Sequence[Row]) -> bool:
    return any(row.status == "FAIL" for row in rows)


def _rows(point: Point, rtol: float | None, notes: list[str], each_tensor: bool) -> list[Row]:
    """Return the rows at one point, of each tensor or of all together, and add to the notes.

    If the target breaks a rule, they are those of broken rules alone.
    """
    narrow = point.problem.dtype == np.float32
    tolerance = exact = rtol or (1e-4 if narrow else 1e-12)
    if rows := contract_rows(point, exact):
        return rows
    if point.why_no_complex:
        tolerance = 1e-4 if narrow else 1e-7  # rtol is for the complex step alone
        notes.append(f"no complex step, finite differences instead: {point.why_no_complex}")
    rows = tensor_rows(point, tolerance) if each_tensor else []
    rows += adjoint_rows(point, tolerance, exact) + specification_rows(point, exact)
    notes += [f"{row.tensor}: {row.note}" for row in rows if UNCHECKED in row.note]
    notes.append(_suspicion(point, rows))
    return rows


def _coincidences(inputs: Arrays) -> Iterator[str]:
    """Yield notes on inputs that may hide a mistake.

    The check is repeated at other parameters, but not at other inputs: one may be a mask.
    """
    for name, array in inputs.items():
        if array.dtype.kind in "iu" and np.unique(array).size == array.size > 1:
            yield (
                f"{name} has no repeated number: if these are indices, a backward that overwrites "
                "instead of adding is not detected"
            )
        elif is_floating(array) and array.size and (array == 1).all():
            yield (
                f"{name} is 1 everywhere: a backward that forgets to multiply by it is not detected"
            )


def _suspicion(point: Point, rows: Sequence[Row]) -> str:
    """Return a note on a property of the forward that may make the references wrong, or ""."""
    statuses = {row.status for row in rows}
    if "FAIL" in statuses and point.problem.ignores_params():
        return PARAMS_UNREAD
    if statuses & {"FAIL", "kink"} and (names := [n for n in point.tensors if _rounds(point, n)]):
        return ROUNDED.format(", ".join(names))
    failed = [row.tensor for row in rows if row.status == "FAIL" and row.method == "complex step"]
    return SUSPECT if failed and all(differences_agree(point, name) for name in failed) else ""


def _rounds(point: Point, name: str) -> bool:
    """Return whether outputs react to a tensor, but not to changes below float32's rounding."""
    direction = point.random_direction(point.tensors[name].shape)

    def outputs(size: float) -> Array:
        moved = point.tensors[name] * (1 + size * direction)
        return point.paired(point.problem.evaluate(point.tensors | {name: moved}))

    try:
        here = outputs(0.0)
        return same(outputs(2.0**-44), here) and not np.allclose(outputs(0.01), here)
    except ValueError:  # the forward refuses points near this one
        return False
