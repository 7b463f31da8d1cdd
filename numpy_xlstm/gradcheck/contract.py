"""Requirements on a forward and a backward other than the values of the gradients."""

from collections.abc import Callable

import numpy as np

from numpy_xlstm.gradcheck.axes import Index
from numpy_xlstm.gradcheck.reference import Point
from numpy_xlstm.gradcheck.report import Row
from numpy_xlstm.gradcheck.target import accepts, copies
from numpy_xlstm.numerics import Array, Arrays


def contract_rows(point: Point, rtol: float) -> list[Row]:
    """Return rows for invalid outputs, arrays that are written to, and invalid gradients."""
    problem, gradients, rows = point.problem, point.gradients, list[Row]()

    def fail(name: str, shape: Index, note: str) -> None:
        rows.append(Row(name, shape, "contract", "", np.inf, 0.0, "FAIL", note, problem.state))

    again = problem.evaluate(problem.tensors)
    for name, output in problem.outputs.items():
        other = again.get(name, np.empty(0))
        if not (np.isfinite(output) | (output == -np.inf)).all():
            fail(name, output.shape, "the forward gives NaN or infinity")
        elif other.shape != output.shape or not np.allclose(output, other):
            fail(name, output.shape, "a second forward gives another output")
    complaints = {name: text for name in problem.tensors if (text := _form(name, point))}
    complaints = complaints or _repeated(point, rtol)
    for name, shape, by in problem.changes:
        fail(name, shape, f"the {by} writes to it; write to a copy")
    for name, complaint in complaints.items():
        fail(name, np.shape(problem.tensors.get(name, 0.0)), complaint)
    for name in sorted(gradients.keys() - problem.tensors.keys()):
        fail(name, gradients[name].shape, "the backward returns a gradient of an unknown tensor")
    return rows


def _form(name: str, point: Point) -> str:
    """Describe a missing gradient, a wrong shape or dtype, or non-finite numbers; "" if none."""
    tensor, gradient = point.problem.tensors[name], point.gradients.get(name)
    if gradient is None:
        return "the backward returns no gradient for it"
    if gradient.shape != tensor.shape:
        return f"expected a gradient of shape {tensor.shape}; got {gradient.shape}"
    if gradient.dtype != tensor.dtype:
        return f"expected a gradient of dtype {tensor.dtype}; got {gradient.dtype}"
    if not np.isfinite(gradient).all():
        index = tuple(np.argwhere(~np.isfinite(gradient))[0].tolist())
        return f"the gradient is {gradient[index]} at {list(index)}"
    return ""


def _repeated(point: Point, rtol: float) -> dict[str, str]:
    """Call the backward again in several ways that must give the same gradients.

    Returns the first complaint about each gradient, and about a backward that raises an error.
    """
    problem, cotangents, gradients = point.problem, point.cotangents, point.gradients
    atol = 8 * rtol * max(float(np.abs(g).max(initial=0)) for g in gradients.values())
    complaints: dict[str, str] = {}

    def expect(
        otherwise: str, call: Callable[[], Arrays], right: Arrays = gradients, atol: float = 0.0
    ) -> None:
        try:
            again = call()
        except Exception as error:  # a backward under test may raise anything
            complaints.setdefault("backward", f"{otherwise}: {type(error).__name__}: {error}")
            return
        for name, expected in right.items():
            gradient = again.get(name, np.empty(0))
            same_shape = np.shape(gradient) == expected.shape
            if not same_shape or not np.abs(gradient - expected).max(initial=0) <= atol:
                complaints.setdefault(name, otherwise)

    def held_during_another() -> Arrays:
        held = problem.backward(cotangents)
        problem.backward(point.random_cotangents())
        return held

    again = "a second backward from the same cache gives another gradient"
    expect(again, lambda: problem.backward(cotangents))
    problem.forward_elsewhere()  # of the same layer, which may overwrite what is its own
    problem.note_changes("next forward", problem.outputs, problem.call.outputs)
    on_self = (
        "a forward with other inputs changes the gradient from a cache; store residuals only in "
        "the cache, not on the layer"
    )
    expect(on_self, lambda: problem.backward(cotangents))
    expect("another backward overwrites it; return a new array", held_during_another)
    layout = "a dy that is not contiguous gives another gradient"
    expect(layout, lambda: problem.backward(cotangents, _strided), atol=atol)
    if problem.stateful and accepts(problem.call.layer.backward, "dy", "cache"):
        only_y = {n: c if n.partition(".")[0] == "y" else 0 * c for n, c in cotangents.items()}
        with_zeros = copies(problem.backward(only_y))
        alone = "without dstate the gradient is not that of a dstate of zeros"
        expect(alone, lambda: problem.backward(only_y, alone=True), with_zeros, atol)
    return complaints


def _strided(array: Array) -> Array:
    """Return a copy in Fortran order with gaps, contiguous in no order."""
    wide = np.zeros((*array.shape[::-1], 2), array.dtype)
    wide[..., 0] = array.T
    return wide[..., 0].T
