"""Notes on inputs that hide mistakes, and on forwards for which the references are wrong."""

from collections.abc import Iterator, Sequence

import numpy as np

from numpy_xlstm.gradcheck.point import NOT_ANALYTIC, Point
from numpy_xlstm.gradcheck.report import Row
from numpy_xlstm.gradcheck.target import Arrays, is_floating, same
from numpy_xlstm.numerics import Array

OVERWRITES = "if these are indices, a backward that overwrites instead of adding is not detected"
FORGETS = "a backward that forgets to multiply by it is not detected"
TRANSPOSES = "a backward that forgets to transpose or to flip it is not detected"

SUSPECT = (
    "differences agree where the complex step does not: is the forward analytic as written? "
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


def coincidences(inputs: Arrays) -> Iterator[str]:
    """Yield notes on inputs that may hide a mistake.

    The check is repeated at other parameters, but not at other inputs: one may be a mask.
    """
    for name, array in inputs.items():
        if array.dtype.kind in "iu" and np.unique(array).size == array.size > 1:
            yield f"{name} has no repeated number: {OVERWRITES}"
        elif is_floating(array) and array.size and (array == 1).all():
            yield f"{name} is 1 everywhere: {FORGETS}"
        elif is_floating(array) and np.isfinite(array).all() and _symmetric(array):
            yield f"{name} is symmetric: {TRANSPOSES}"


def _symmetric(array: Array) -> bool:
    """Return whether an array is symmetric and not all zero.

    It is symmetric if swapping its last two axes, or reversing its last axis, does not change it.
    """
    *_, rows, columns = (0, 0, *array.shape)
    swapped = rows == columns > 1 and same(array, array.swapaxes(-1, -2))
    return bool(array.any()) and (swapped or (columns > 1 and same(array, array[..., ::-1])))


def suspicion(point: Point, rows: Sequence[Row]) -> str:
    """Return a note on a property of the forward that may make the references wrong, or ""."""
    statuses = {row.status for row in rows}
    if "FAIL" in statuses and point.problem.ignores_params():
        return PARAMS_UNREAD
    if statuses & {"FAIL", "kink"} and (names := [n for n in point.tensors if _rounds(point, n)]):
        return ROUNDED.format(", ".join(names))
    failed = {(row.tensor, row.method) for row in rows if row.status == "FAIL"}
    of_complex = {tensor for tensor, method in failed if method == "complex"}
    agreed = {row.tensor for row in rows if row.method == "difference"}
    agreed -= {tensor for tensor, method in failed if method == "difference"}
    return SUSPECT if of_complex and of_complex <= agreed else ""


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
