"""What a forward, a backward and every gradient must be before a value is looked at."""

from collections.abc import Iterable

import numpy as np

from numpy_xlstm.gradcheck.point import Point
from numpy_xlstm.gradcheck.report import Row
from numpy_xlstm.gradcheck.target import Arrays
from numpy_xlstm.numerics import Array


def contract_rows(point: Point) -> Iterable[Row]:
    """Rows for outputs that are NaN or vary, arrays written to, and gradients that are none."""
    outputs_again = point.problem.evaluate(point.problem.tensors)
    for name, output in point.problem.outputs.items():
        if not (np.isfinite(output) | (output == -np.inf)).all():
            yield _failure(name, output.shape, "the forward gives NaN or infinity")
        elif not _alike(output, outputs_again.get(name)):
            yield _failure(name, output.shape, "a second forward gives another output")
    again = point.problem.backward(point.cotangents)
    for name, shape, by in point.problem.changes:
        yield _failure(name, shape, f"the {by} writes to it; write to a copy")
    for name, tensor in point.problem.tensors.items():
        if complaint := _complaint(name, point, again):
            yield _failure(name, tensor.shape, complaint)
    for name in sorted(point.gradients.keys() - point.problem.tensors.keys()):
        yield _failure(name, point.gradients[name].shape, "the backward returns it, unasked")


def _alike(output: Array, again: Array | None) -> bool:
    """Whether a second output is the first but for rounding."""
    return again is not None and again.shape == output.shape and np.allclose(output, again)


def _failure(name: str, shape: tuple[int, ...], note: str) -> Row:
    return Row(name, shape, "contract", "", float("inf"), 0.0, "FAIL", note)


def _complaint(name: str, point: Point, again: Arrays) -> str:
    tensor, gradient = point.problem.tensors[name], point.gradients.get(name)
    if gradient is None:
        return "the backward returns no gradient for it"
    if gradient.shape != tensor.shape:
        return f"expected a gradient of shape {tensor.shape}; got {gradient.shape}"
    if gradient.dtype != tensor.dtype:
        return f"expected a gradient of dtype {tensor.dtype}; got {gradient.dtype}"
    if not np.isfinite(gradient).all():
        place = tuple(np.argwhere(~np.isfinite(gradient))[0].tolist())
        return f"the gradient is {gradient[place]} at {list(place)}"
    if not np.array_equal(gradient, again.get(name, np.nan)):
        return "a second backward from the same cache gives another gradient"
    return ""
