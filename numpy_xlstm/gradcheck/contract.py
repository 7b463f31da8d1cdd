"""What a forward, a backward and every gradient must be before a value is looked at."""

from collections.abc import Callable, Iterator

import numpy as np

from numpy_xlstm.gradcheck.problem import Point
from numpy_xlstm.gradcheck.report import Row
from numpy_xlstm.gradcheck.target import Arrays, copies
from numpy_xlstm.numerics import Array

Trial = tuple[str, Callable[[], Arrays], Arrays, float]
"""A complaint about a call of the backward that gives others than these gradients, that precise."""


def contract_rows(point: Point, rtol: float) -> list[Row]:
    """Rows for outputs that are NaN or vary, arrays written to, and gradients that are none."""
    problem, rows = point.problem, list(_output_rows(point))
    complaints = {name: text for name in problem.tensors if (text := _form(name, point))}
    complaints = complaints or _complaints(point, rtol)
    for name, shape, by in problem.changes:
        rows += [_failure(name, shape, f"the {by} writes to it; write to a copy")]
    for name, complaint in complaints.items():
        rows += [_failure(name, np.shape(problem.tensors.get(name, 0.0)), complaint)]
    for name in sorted(point.gradients.keys() - problem.tensors.keys()):
        rows += [_failure(name, point.gradients[name].shape, "the backward returns it, unasked")]
    return rows


def _failure(name: str, shape: tuple[int, ...], note: str) -> Row:
    return Row(name, shape, "contract", "", float("inf"), 0.0, "FAIL", note)


def _output_rows(point: Point) -> Iterator[Row]:
    again = point.problem.evaluate(point.problem.tensors)
    for name, output in point.problem.outputs.items():
        other = again.get(name, np.empty(0))
        if not (np.isfinite(output) | (output == -np.inf)).all():
            yield _failure(name, output.shape, "the forward gives NaN or infinity")
        elif other.shape != output.shape or not np.allclose(output, other):
            yield _failure(name, output.shape, "a second forward gives another output")


def _form(name: str, point: Point) -> str:
    """What is wrong with the form of a gradient."""
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
    return ""


def _complaints(point: Point, rtol: float) -> dict[str, str]:
    """The first complaint about each gradient, and about a backward that raises an error."""
    found: dict[str, str] = {}
    for complaint, call, expected, atol in _trials(point, rtol):
        try:
            gradients = call()
        except Exception as error:  # a backward under test may raise anything
            found.setdefault("backward", f"{complaint}: {type(error).__name__}: {error}")
            continue
        for name, right in expected.items():
            gradient = gradients.get(name, np.empty(0))
            same_shape = np.shape(gradient) == right.shape
            if not same_shape or not np.abs(gradient - right).max(initial=0) <= atol:
                found.setdefault(name, complaint)
    return found


def _trials(point: Point, rtol: float) -> Iterator[Trial]:
    """The backward called again, in every way that must make no difference."""
    problem, cotangents, expected = point.problem, point.cotangents, point.gradients
    atol = 8 * rtol * max(float(np.abs(g).max(initial=0)) for g in expected.values())

    def after_a_forward() -> Arrays:
        problem.forward_elsewhere()
        return problem.backward(cotangents)

    def held_during_another() -> Arrays:
        held = problem.backward(cotangents)
        problem.backward(point.random_cotangents())
        return held

    complaint = "a second backward from the same cache gives another gradient"
    yield complaint, lambda: problem.backward(cotangents), expected, 0
    complaint = "a forward elsewhere changes the gradient from a cache; keep nothing on the layer"
    yield complaint, after_a_forward, expected, 0
    complaint = "another backward writes over it; return a new array"
    yield complaint, held_during_another, expected, 0
    complaint = "a dy that is not contiguous gives another gradient"
    yield complaint, lambda: problem.backward(cotangents, _strided), expected, atol
    if problem.takes_no_dstate:
        only_y = {n: c * (n.partition(".")[0] == "y") for n, c in cotangents.items()}
        with_zeros = copies(problem.backward(only_y))
        complaint = "without dstate the gradient is not that of a dstate of zeros"
        yield complaint, lambda: problem.backward(only_y, alone=True), with_zeros, atol


def _strided(array: Array) -> Array:
    """A copy that is contiguous in no order: every other number, the last axis the slowest."""
    wide = np.zeros((*array.shape[::-1], 2), array.dtype)
    wide[..., 0] = array.T
    return wide[..., 0].T
