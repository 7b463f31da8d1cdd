"""Targets that modify their arguments, or reuse arrays that they returned, are reported."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.numerics import Array
from tests.gradcheck.layers import X, complaints


def test_a_backward_that_writes_to_dy() -> None:
    def backward(dy: Array, cache: Any) -> Array:
        dy *= 2
        return dy

    report = gradcheck((lambda x: (2 * x, None), backward), X, rng=0)
    assert complaints(report) == {("dy", "the backward writes to it")}


def test_a_backward_that_writes_to_dstate() -> None:
    def backward(dy: Array, cache: Any, dstate: Any) -> Any:
        dstate[1][...] += dy
        return dstate[0] + 2 * dy, None

    forward = lambda x: (x, (x, x), None)  # noqa: E731
    report = gradcheck((forward, backward), X, rng=0)
    assert complaints(report) == {("dstate.1", "the backward writes to it")}


def test_a_backward_may_return_dy() -> None:
    assert gradcheck((lambda x: (x + 1, None), lambda dy, cache: dy), X, rng=0).passed


@pytest.mark.parametrize("which", [0, 1])
def test_a_forward_that_writes_to_an_input(which: int) -> None:
    def forward(x: Array, n: Array) -> Any:
        y = n * x**2
        (x, n)[which][...] *= 3
        return y, (x / (3 if which == 0 else 1), n / (3 if which else 1))

    def backward(dy: Array, cache: Any) -> Any:
        x, n = cache
        return 2 * n * x * dy, None

    x, n = X.copy(), np.array([[2, 4]])
    report = gradcheck((forward, backward), x, n, rng=0)
    assert complaints(report) == {("xn"[which], "the forward writes to it")}
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(n, [[2, 4]])


class Counting:
    """A layer that writes to its parameter, in one of its passes."""

    def __init__(self, by: str) -> None:
        self.params = {"w": np.array([1.5, -2.0])}
        self.by = by

    def forward(self, x: Array) -> Any:
        y, cache = x * self.params["w"], (x, self.params["w"].copy())
        if self.by == "forward":
            self.params["w"][...] += 1
        return y, cache

    def backward(self, dy: Array, cache: Any) -> Any:
        x, w = cache
        if self.by == "backward":
            self.params["w"][...] -= (dy * x).sum(0)
        return dy * w, {"w": (dy * x).sum(0)}


@pytest.mark.parametrize("by", ["forward", "backward"])
def test_a_layer_that_writes_to_its_parameters(by: str) -> None:
    layer = Counting(by)
    report = gradcheck(layer, X, rng=0)
    assert complaints(report) == {("w", f"the {by} writes to it")}
    assert layer.params["w"].tolist() == [1.5, -2.0]
    assert gradcheck(Counting("none"), X, rng=0).passed


def test_a_backward_that_writes_to_the_input_through_the_cache() -> None:
    def backward(dy: Array, x: Array) -> Array:
        x *= 2
        return x * dy

    x = X.copy()
    report = gradcheck((lambda x: (x**2, x), backward), x, rng=0)
    assert ("x", "the backward writes to it") in complaints(report)
    np.testing.assert_array_equal(x, X)


def test_gradients_that_add_up_from_call_to_call() -> None:
    class Accumulating:
        def __init__(self) -> None:
            self.params = {"w": np.array([1.5, -2.0])}
            self.grads = {"w": np.zeros(2)}

        def forward(self, x: Array) -> Any:
            return x * self.params["w"], x

        def backward(self, dy: Array, x: Array) -> Any:
            self.grads["w"] += (dy * x).sum(0)
            return dy * self.params["w"], self.grads

    report = gradcheck(Accumulating(), X, rng=0)
    assert complaints(report) == {
        ("w", "a second backward from the same cache gives another gradient")
    }


def test_a_forward_that_draws_anew_in_each_call() -> None:
    rng = np.random.default_rng(0)

    def forward(x: Array) -> Any:
        mask = rng.random(x.shape)
        return x * mask, mask

    report = gradcheck((forward, lambda dy, mask: dy * mask), X, rng=0)
    assert complaints(report) == {("y", "a second forward gives another output")}


def test_nan_under_other_cotangents_is_not_linear() -> None:
    """NaN in a tensor that is not the first, for all cotangents but those of the first call."""
    calls = []

    def backward(dy: Array, cache: Any) -> Any:
        calls.append(dy)
        return dy, dy * (1 if np.array_equal(dy, calls[0]) else np.nan)

    pair = (lambda x, z: (x + z, None)), backward
    report = gradcheck(pair, X, X, rng=0, methods=["adjoint"])
    assert [row.tensor for row in report.failures] == ["linear in ȳ"]


def test_a_gradient_that_is_missing_at_the_second_call() -> None:
    calls = []

    def backward(dy: Array, x: Array) -> Any:
        calls.append(dy)
        return 2 * x * dy if len(calls) == 1 else None

    report = gradcheck((lambda x: (x**2, x), backward), X, rng=0)
    assert complaints(report) == {
        ("x", "a second backward from the same cache gives another gradient")
    }
