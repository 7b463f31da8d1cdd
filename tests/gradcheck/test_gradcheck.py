"""The checker on small functions whose derivatives are known."""

import json
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.numerics import Array
from tests.gradcheck.layers import X, real, square


def square_backward(dy: Array, x: Array) -> Array:
    return 2 * x * dy


def modulus(x: Array) -> tuple[Array, Array]:
    return np.where(x.real >= 0, x, -x), x


def modulus_backward(dy: Array, x: Array) -> Array:
    return np.where(x >= 0, dy, -dy)


def test_a_pair_of_functions() -> None:
    report = gradcheck((square, square_backward), X, rng=0)
    assert report.passed
    assert [row.method for row in report.rows] == ["complex step", "adjoint", "adjoint"]
    assert report.max_error < 1e-9
    assert report.rows[0].error < 1e-15


def test_the_seed_repeats_the_check() -> None:
    first = gradcheck((square, square_backward), X)
    second = gradcheck((square, square_backward), X, rng=first.seed)
    assert first.rows == second.rows
    assert str(first.seed) in str(first)
    other = gradcheck((square, square_backward), X, rng=np.random.default_rng(3))
    assert other.rows == gradcheck((square, square_backward), X, rng=other.seed).rows


def test_a_scalar_output() -> None:
    def forward(x: Array) -> tuple[Any, Array]:
        return (x**2).sum(), x

    assert gradcheck((forward, lambda dy, x: 2 * x * dy), X, rng=0).passed


@pytest.mark.parametrize("distance", [0.0, 1e-9, 5e-9, 1e-8])
def test_a_kink_is_neither_passed_nor_failed(distance: float) -> None:
    at_kink = np.array([distance])
    report = gradcheck(real((modulus, modulus_backward)), at_kink, rng=0)
    assert report.rows[0].status == "kink"
    assert not report.passed
    assert not report.failures
    assert "kink" in str(report)
    assert "NOT PASSED (0 failures, 1 undecided)" in str(report)
    assert gradcheck((modulus, modulus_backward), at_kink, rng=0).passed


def test_steep_functions_are_not_called_wrong() -> None:
    """The fifth derivative of 1/x at 1e-2 is visible with the usual step."""

    def forward(x: Array) -> tuple[Array, Array]:
        return 1 / x, x

    steep = np.array([1e-2, 1.0])
    report = gradcheck(real((forward, lambda dy, x: -dy / x**2)), steep, rng=0)
    assert report.passed, str(report)
    assert gradcheck(real((forward, lambda dy, x: -dy / x**2 * (1 + 1e-6))), steep, rng=0).failures


@pytest.mark.parametrize(
    ("gradient", "complaint"),
    [
        (lambda x: None, "no gradient"),
        (lambda x: 2 * x[:1], "shape (2, 2); got (1, 2)"),
        (lambda x: (2 * x).astype(np.float32), "dtype float64; got float32"),
        (lambda x: np.full_like(x, np.nan), "the gradient is nan at [0, 0]"),
        (lambda x: np.full_like(x, np.inf), "the gradient is inf at [0, 0]"),
        (lambda x: 2 * x * np.random.default_rng().random(), "a second backward"),
    ],
)
def test_what_is_no_gradient_fails(gradient: Any, complaint: str) -> None:
    report = gradcheck((square, lambda dy, x: gradient(x)), X, rng=0)
    assert not report.passed
    assert complaint in report.failures[0].note


def test_a_surplus_gradient_fails() -> None:
    pair = (square, lambda dy, x: (2 * x * dy, np.ones(5)))
    assert [row.tensor for row in gradcheck(pair, X, rng=0).failures] == ["gradient 1"]


def test_nan_in_the_output_fails() -> None:
    report = gradcheck((lambda x: (x * np.nan, x), lambda dy, x: dy), X, rng=0)
    assert "NaN" in report.failures[0].note
    assert report.max_error == np.inf


def test_json_is_plain() -> None:
    found = gradcheck((square, square_backward), X, rng=5)
    text = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert text["passed"] is True
    assert text["seed"] == 5
    assert text["rows"][0]["tensor"] == "x"
    assert text["rows"][0]["error"] == found.rows[0].error
    nan = gradcheck((square, lambda dy, x: x * np.nan), X, rng=5)
    assert "inf" in json.dumps(nan.to_dict(), allow_nan=False)
