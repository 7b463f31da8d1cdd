"""What every gradient must be before its value is looked at."""

from collections.abc import Iterable

import numpy as np

from numpy_xlstm.gradcheck.point import Point
from numpy_xlstm.gradcheck.problem import Arrays
from numpy_xlstm.gradcheck.report import Row


def contract_rows(point: Point) -> Iterable[Row]:
    """Rows for outputs that are NaN, and for gradients that are missing, misshapen or NaN."""
    for name, output in point.problem.outputs.items():
        if not (np.isfinite(output) | (output == -np.inf)).all():
            yield _failure(name, output.shape, "the forward gives NaN or infinity")
    again = point.problem.backward(point.cotangents)
    for name, tensor in point.problem.tensors.items():
        if complaint := _complaint(name, point, again):
            yield _failure(name, tensor.shape, complaint)
    for name in point.gradients.keys() - point.problem.tensors.keys():
        yield _failure(name, point.gradients[name].shape, "the backward returns it, unasked")


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
    if not np.array_equal(gradient, again[name]):
        return "a second backward from the same cache gives another gradient"
    return ""
