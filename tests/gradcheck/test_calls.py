"""Backwards that are wrong only in one way of calling; gradcheck tries each way."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.numerics import Array
from tests.gradcheck.layers import ExponentialStep, Square, X, complaints

ON_SELF = "a forward with other inputs changes the gradient from a cache"
WRITTEN_OVER = "another backward overwrites it"
LAYOUT = "a dy that is not contiguous gives another gradient"
ALONE = "without dstate the gradient is not that of a dstate of zeros"


def test_a_cache_on_the_layer() -> None:
    class Keeping(Square):
        def forward(self, x: Array) -> Any:
            y, self.kept = super().forward(x)
            return y, None

        def backward(self, dy: Array, cache: Any) -> Any:
            return super().backward(dy, self.kept)

    assert complaints(gradcheck(Keeping(), X, rng=0)) == {("w", ON_SELF), ("x", ON_SELF)}


@pytest.mark.parametrize("keep", [np.sign, lambda x: x > 0.7])
def test_only_a_mask_on_the_layer(keep: Any) -> None:
    def forward(x: Array) -> Any:
        masks["last"] = keep(x.real)
        return x * masks["last"], None

    masks: dict[str, Array] = {}
    report = gradcheck((forward, lambda dy, cache: dy * masks["last"]), X, rng=0)
    assert complaints(report) == {("x", ON_SELF)}


def test_a_cache_of_tokens_on_the_layer() -> None:
    class Table:
        def __init__(self) -> None:
            self.params = {"rows": np.random.default_rng(0).standard_normal((4, 3))}

        def forward(self, index: Array) -> Any:
            self.index = index
            return self.params["rows"][index], None

        def backward(self, dy: Array, cache: None) -> Any:
            grad = np.zeros_like(self.params["rows"])
            np.add.at(grad, self.index, dy)
            return None, {"rows": grad}

    assert complaints(gradcheck(Table(), np.array([0, 2, 3]), rng=0)) == {("rows", ON_SELF)}


def test_caches_on_a_stack_of_the_layer() -> None:
    stack = []

    def forward(x: Array) -> Any:
        stack.append(x)
        return x**2, None

    report = gradcheck((forward, lambda dy, cache: 2 * dy * stack.pop()), X, rng=0)
    assert any(tensor in ("x", "backward") for tensor, _ in complaints(report))


def test_a_cache_that_can_be_used_once() -> None:
    report = gradcheck((lambda x: (x**2, [x]), lambda dy, cache: 2 * dy * cache.pop()), X, rng=0)
    first = report.failures[0]
    assert first.tensor == "backward"
    assert first.note.startswith("a second backward from the same cache gives another gradient: ")
    assert first.note.endswith("IndexError: pop from empty list")


def test_gradients_in_a_buffer_that_is_used_again() -> None:
    def backward(self: Any, dy: Array, x: Array) -> Any:
        buffer[...] = (dy * x**2).sum(0)
        return 2 * self.params["w"] * x * dy, {"w": buffer}

    buffer = np.empty(2)
    assert complaints(gradcheck(Square(backward), X, rng=0)) == {("w", WRITTEN_OVER)}


def test_outputs_in_a_buffer_that_is_used_again() -> None:
    buffer: Array = np.empty(X.shape, complex)

    def forward(x: Array) -> Any:
        y = buffer if x.dtype.kind == "c" else buffer.real
        y[...] = x**2
        return y, x.copy()

    report = gradcheck((forward, lambda dy, x: 2 * x * dy), X, rng=0)
    assert complaints(report) == {("y", "the next forward writes to it")}


def test_a_backward_that_writes_to_an_output_through_its_cache() -> None:
    def backward(dy: Array, y: Array) -> Array:
        dx = dy * y
        y *= 0.5
        return dx

    def forward(x: Array) -> Any:
        y = np.exp(x)
        return y, y

    report = gradcheck((forward, backward), X, rng=0)
    assert ("y", "the backward writes to it") in complaints(report)


@pytest.mark.parametrize("read", [lambda a: a.ravel("K"), lambda a: np.frombuffer(a.data)])
def test_wrong_only_for_a_dy_that_is_not_contiguous(read: Any) -> None:
    pair = (lambda x: (x**2, x)), (lambda dy, x: 2 * x * read(dy).reshape(x.shape))
    tensor, note = complaints(gradcheck(pair, X, rng=0)).pop()
    assert note.startswith(LAYOUT)
    assert (tensor == "x") != note.endswith("not C-contiguous")


def test_wrong_only_for_a_dstate_that_is_not_contiguous() -> None:
    def backward(dy: Array, cache: Any, dstate: Array) -> Any:
        return 2 * dy + 3 * dstate.ravel("K").reshape(dy.shape), None

    report = gradcheck((lambda x: (2 * x, 3 * x, None), backward), X, rng=0)
    assert complaints(report) == {("x", LAYOUT)}


class WrongAlone(ExponentialStep):
    def backward(self, dy: Array, cache: Any, dstate: Any = None) -> Any:
        dx, dstate0, grads = super().backward(dy, cache, dstate)
        return dx * (1 + 1e-9 * (dstate is None)), dstate0, grads


def test_wrong_only_without_dstate() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3))
    assert complaints(gradcheck(WrongAlone(), x, rng=0)) == {("x", ALONE)}


def test_an_error_only_without_dstate() -> None:
    class Raising(ExponentialStep):
        def backward(self, dy: Array, cache: Any, dstate: Any = None) -> Any:
            return super().backward(dy + 0 * dstate.h, cache, dstate)

    x = np.random.default_rng(1).standard_normal((2, 3))
    found = gradcheck(Raising(), x, rng=0).failures
    assert [row.tensor for row in found] == ["backward"]
    assert "AttributeError" in found[0].note


@pytest.mark.parametrize("method", ["complex", "difference"])
@pytest.mark.parametrize(
    ("max_entries", "checked"),
    [(0, "5 directions"), (3, "5 directions"), (4, "4 entries"), (5, "4 entries")],
)
def test_max_entries_is_the_largest_size_that_is_checked_entry_by_entry(
    max_entries: int, checked: str, method: str
) -> None:
    pair = (lambda x: (x**2, x)), (lambda dy, x: 2 * x * dy)
    options: dict[str, Any] = {"methods": [method], "max_entries": max_entries, "directions": 5}
    report = gradcheck(pair, X, rng=0, **options)
    assert [row.checked for row in report.rows] == [checked]
    assert report.passed, str(report)
