"""Targets of gradcheck: names, dtypes, layers of many kinds, and errors for others."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.numerics import Array
from tests.gradcheck.layers import Square, X

W = np.array([1.5, -2.0])


class Namesake:
    """A product of an input and of a parameter of the same name."""

    def __init__(self, dx: float = 1.0, dw: float = 1.0) -> None:
        self.params, self.factors = {"x": W}, (dx, dw)

    def forward(self, x: Array) -> tuple[Array, Array]:
        return x * self.params["x"], x

    def backward(self, dy: Array, x: Array) -> Any:
        dx, dw = self.factors
        return dx * dy * self.params["x"], {"x": dw * (dy * x).sum(0)}


def test_a_parameter_and_an_input_of_one_name_are_both_checked() -> None:
    report = gradcheck(Namesake(), X, rng=0)
    assert report.passed, str(report)
    assert [row.tensor for row in report.rows if row.method == "complex step"] == ["params.x", "x"]


@pytest.mark.parametrize("factor", [1 + 1e-6, np.nan])
@pytest.mark.parametrize(("spoiled", "shown"), [("dx", "x"), ("dw", "params.x")])
def test_a_wrong_gradient_of_either_namesake_is_named(
    spoiled: str, shown: str, factor: float
) -> None:
    report = gradcheck(Namesake(**{spoiled: factor}), X, rng=0)
    assert report.failures[0].tensor == shown


def test_a_gradient_of_no_parameter_is_reported_though_an_input_has_its_name() -> None:
    for name in ("v", "x", "x.w"):
        layer = Square(lambda _, dy, x, n=name: (2 * W * x * dy, {"w": (dy * x**2).sum(0), n: W}))
        report = gradcheck(layer, X, rng=0)
        assert [row.tensor for row in report.failures] == [f"grads.{name}"]


def test_integers_among_the_parameters_are_constants() -> None:
    class Chosen:
        def __init__(self, of_integers: dict[str, Array]) -> None:
            self.params = {"index": np.array([1, 1]), "w": W}
            self.of_integers = of_integers

        def forward(self, x: Array) -> Any:
            return x * self.params["w"][self.params["index"]], x

        def backward(self, dy: Array, x: Array) -> Any:
            dw = np.zeros(2)
            np.add.at(dw, self.params["index"], (dy * x).sum(0))
            return dy * self.params["w"][self.params["index"]], {"w": dw, **self.of_integers}

    for gradients in ({}, {"index": np.zeros(2, int)}):
        report = gradcheck(Chosen(gradients), X, rng=0)
        assert report.passed, str(report)
        assert "index" not in {row.tensor for row in report.rows}


def test_an_integer_in_the_state_leaves_the_complex_step() -> None:
    def forward(x: Array, state: Any) -> Any:
        return x**2 * state[0], (state[0] * x.sum(), state[1] + 1), (x, state[0])

    def backward(dy: Array, cache: Any, dstate: Any) -> Any:
        x, s = cache
        return 2 * x * s * dy + dstate[0] * s, ((x**2 * dy).sum() + dstate[0] * x.sum(), None)

    report = gradcheck((forward, backward), X, (np.array(0.7), np.array(3)), rng=0)
    assert report.passed, str(report)
    assert {row.tensor for row in report.rows if row.method == "complex step"} == {"x", "state.0"}


def test_a_backward_may_be_a_ufunc() -> None:
    assert gradcheck((lambda x: (2 * x, 2.0), np.multiply), X, rng=0).passed


def test_a_layer_without_parameters_may_leave_out_their_gradients() -> None:
    backwards: list[Any] = [lambda dy, x: 2 * dy * x, lambda dy, x: (2 * dy * x, {})]
    for backward in backwards:
        layer = SimpleNamespace(params={}, forward=lambda x: (x**2, x), backward=backward)
        assert gradcheck(layer, X, rng=0).passed


def test_a_forward_that_reads_other_parameters_is_suspected() -> None:
    class Nested(Square):
        part = Square()

        def forward(self, x: Array) -> Any:
            return self.part.forward(x)

    report = gradcheck(Nested(), X, rng=0)
    assert {row.tensor for row in report.failures} >= {"w"}
    assert "does it read them from self.params?" in str(report)
    wrong = Square(lambda _, dy, x: (2 * W * x * dy, {"w": 2 * (dy * x**2).sum(0)}))
    assert "self.params" not in str(gradcheck(wrong, X, rng=0))
