"""The check itself: which methods, which tolerances, and the report."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.gradcheck.compare import adjoint_rows, tensor_rows
from numpy_xlstm.gradcheck.contract import contract_rows
from numpy_xlstm.gradcheck.point import Point
from numpy_xlstm.gradcheck.problem import Problem
from numpy_xlstm.gradcheck.report import Report, Row, explained
from numpy_xlstm.numerics import check_above_zero, check_positive, check_whole

NOT_ANALYTIC = (
    "differences agree where the complex step does not: is the forward analytic as written? "
    "np.abs, conj and .real are not; branch on the real part instead"
)
PARAMS_UNREAD = (
    "the forward gives the same outputs over other parameters: does it read them from self.params? "
    "if not, define with_params(params), which returns the same layer over other arrays"
)

METHODS = ("complex", "difference", "adjoint")

TOLERANCES = {
    "float64": {"complex": 1e-12, "adjoint": 1e-12, "difference": 1e-7},
    "float32": {"complex": 1e-4, "adjoint": 1e-4, "difference": 1e-4},
}
"""Accepted errors by dtype of the backward; references are computed in float64 for both."""


def gradcheck(
    target: Any,
    *inputs: Any,
    rng: np.random.Generator | int | None = None,
    methods: Sequence[str] = METHODS,
    rtol: float | None = None,
    max_entries: int = 64,
    directions: int = 8,
) -> Report:
    """Check a backward against three independent references.

    For random cotangents ȳ on every output and every part of the final state, the backward must
    give g = ∂⟨ȳ, outputs⟩/∂tensor for every parameter, every input and every part of the initial
    state. The references ĝ are

    - ``"complex"``: the complex step, Im f(x + ih)/h, exact to rounding;
    - ``"difference"``: central differences with Richardson extrapolation;
    - ``"adjoint"``: ⟨ȳ, J v⟩ = ⟨g, v⟩ for random directions v over all tensors at once, J v by
      complex step (or by differences if the forward takes no complex numbers), and the linearity
      of the backward in ȳ.

    A forward that takes a state, and is given none or one where gradients are zero, is also checked
    from a state that it returned: where a state is empty, wrong terms are multiplied by zero.

    Parameters
    ----------
    target : layer or (forward, backward)
        What to check. Either protocol will do, from a class with ``params`` or from two functions::

            y, cache        = forward(x)           dx, grads          = backward(dy, cache)
            y, state, cache = forward(x, state)    dx, dstate0, grads = backward(dy, cache, dstate)

        Functions may take several inputs, return one gradient for each, and have no ``grads``.
        ``params`` is a mapping of arrays. A layer is evaluated over others by its
        ``with_params(params)``, or else by a copy whose ``params`` is replaced. Its attribute
        ``tensor_axes``, if any, names entries: ``{"W": "(gate=ifzo unit) input"}``.
    *inputs : array or nested tuple of arrays
        The arguments of the forward: x, and a state if its gradient is to be checked. Copies are
        passed on. Inputs and parameters share one dtype: float32, float64 or longdouble; integers
        have no gradient.
    rng : np.random.Generator or int, optional
        Source of cotangents and directions, or its seed. The report shows the seed.
    methods : sequence of str
        Which references to use.
    rtol : float, optional
        Accepted error of the complex and adjoint methods, instead of 1e-12 (1e-4 for float32).
    max_entries, directions : int
        Tensors up to this size are checked entry by entry, larger ones along so many random
        directions.

    Returns
    -------
    Report
        ``report.passed``, ``report.max_error``, ``str(report)`` is a table.

    Raises
    ------
    OptionError
        If an option is none of the above.
    TypeError
        If the target does not follow a protocol.
    DTypeError, ShapeError
        If tensors are of other dtypes, or ``tensor_axes`` does not fit their shape.

    Notes
    -----
    The error of a tensor is ``max|g − ĝ| / max|ĝ|``. A tensor whose gradient is zero, or nearly so
    beside the others, is measured on the scale of rounding instead. NaN is a failure.

    Rows may be neither ok nor failures. ``kink``: a modulus at 0 or a tie of a maximum lies within
    the step of the differences. ``vacuous``: ĝ is zero everywhere, which a wrong backward may give
    as well. A report passes if no row fails, and if each tensor with such a row has another row
    that is ok: of another method, or from the state that was returned.

    Examples
    --------
    A product whose backward forgot a factor, caught and located:

    >>> import numpy as np
    >>> from numpy_xlstm import gradcheck
    >>> def forward(x):
    ...     return x**3, x
    >>> def backward(dy, x):
    ...     dx = 3 * x**2 * dy
    ...     dx[1] *= 1 + 1e-6
    ...     return dx
    >>> report = gradcheck((forward, backward), np.array([1.0, 2.0, 3.0]), rng=0)
    >>> report.passed
    False
    >>> report.failures[0].note.split(":")[0]
    '1 of 3 entries; worst at [1]'
    """
    seed, generator = _seeded(rng)
    _check_options(methods, rtol, max_entries, directions)
    rows: list[Row] = []
    notes: list[str] = []
    for problem in _problems(target, inputs, rows):
        point = Point(problem, generator, max_entries, directions)
        found, said = _check(point, methods, rtol)
        rows += [replace(row, state=problem.state) for row in found]
        notes += said
        if any(row.method == "contract" for row in found):
            break
    return Report(explained(rows), seed, tuple(dict.fromkeys(notes)))


def _problems(target: Any, inputs: tuple[Any, ...], rows: list[Row]) -> Iterator[Problem]:
    """The call that was asked for, and the same from the state that it returns, if that tells more.

    It does if no state was given, or if rows of the first call are vacuous.
    """
    yield (problem := Problem(target, inputs))
    vacuous = problem.state and any(row.status == "vacuous" for row in rows)
    if problem.state == "none" or vacuous:
        yield problem.from_returned_state()


def _check(point: Point, methods: Sequence[str], rtol: float | None) -> tuple[list[Row], list[str]]:
    """All rows at one point, and notes."""
    tolerances = TOLERANCES["float32" if point.dtype == np.float32 else "float64"]
    if rtol is not None:
        tolerances = tolerances | {"complex": rtol, "adjoint": rtol}
    rows = contract_rows(point, tolerances["adjoint"])
    if rows:
        return rows, []
    notes, methods = _possible(methods, point)
    for method in methods:
        if method == "adjoint":
            rows += adjoint_rows(point, tolerances)
            continue
        try:
            rows += tensor_rows(point, method, tolerances[method])
        except ValueError as error:
            if method == "complex" or not rows:
                raise
            notes.append(f"no differences: the forward refuses points beside this one: {error}")
    if _only_complex_fails(rows):
        notes.append(NOT_ANALYTIC)
    if any(row.status == "FAIL" for row in rows) and point.problem.ignores_params():
        notes.append(PARAMS_UNREAD)
    return rows, notes


def _only_complex_fails(rows: Sequence[Row]) -> bool:
    """Whether differences agree with the backward wherever the complex step does not."""
    failed = {m: {r.tensor for r in rows if (r.method, r.status) == (m, "FAIL")} for m in METHODS}
    compared = {row.tensor for row in rows if row.method == "difference"}
    return bool(failed["complex"]) and failed["complex"] <= compared - failed["difference"]


def _possible(methods: Sequence[str], point: Point) -> tuple[list[str], Sequence[str]]:
    """Replace the complex step by differences where the forward takes no complex numbers."""
    if not point.why_no_complex or "complex" not in methods:
        return [], methods
    note = f"no complex step, differences instead: {point.why_no_complex}"
    return [note], [m for m in METHODS if m != "complex" and (m in methods or m == "difference")]


def _seeded(rng: np.random.Generator | int | None) -> tuple[int, np.random.Generator]:
    if isinstance(rng, np.random.Generator):
        seed = int(rng.integers(2**63))
    elif rng is None:
        seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    else:
        seed = check_whole("rng", rng)
    return seed, np.random.default_rng(seed)


def _check_options(
    methods: Sequence[str], rtol: float | None, max_entries: int, directions: int
) -> None:
    check_positive("directions", directions)
    if max_entries != 0:
        check_positive("max_entries", max_entries)
    if isinstance(methods, str) or not isinstance(methods, Sequence) or not methods:
        raise OptionError(f"methods: expected a list of {', '.join(METHODS)}; got {methods!r}")
    for method in methods:
        if method not in METHODS:
            raise OptionError(f"methods: expected some of {', '.join(METHODS)}; got {method!r}")
    if rtol is not None:
        check_above_zero("rtol", rtol)
