"""Activations against 50 digits over the range of their arguments, and as analytic functions."""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from numpy_xlstm.numerics import (
    Array,
    log_sigmoid,
    log_sigmoid_slope,
    sigmoid,
    sigmoid_and_slope,
    tanh_slope,
)

mpmath.mp.dps = 50
MAGNITUDES = np.concatenate([[0.0], np.logspace(-8, 2.8, 200)])
X = np.concatenate([-MAGNITUDES[::-1], MAGNITUDES])


def _sigma(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Any], Any]]] = {
    "sigmoid": (sigmoid, _sigma),
    "sigmoid with slope": (lambda x: sigmoid_and_slope(x)[0], _sigma),
    "sigmoid slope": (lambda x: sigmoid_and_slope(x)[1], lambda x: _sigma(x) * _sigma(-x)),
    "tanh slope": (tanh_slope, lambda x: mpmath.sech(x) ** 2),
    "log sigmoid": (log_sigmoid, lambda x: -mpmath.log1p(mpmath.exp(-x))),
    "log sigmoid slope": (log_sigmoid_slope, lambda x: _sigma(-x)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_relative_error_is_a_few_roundings(name: str, dtype: Any) -> None:
    ours, exact = FUNCTIONS[name]
    x = X.astype(dtype)
    info = np.finfo(dtype)
    for argument, got in zip(x, ours(x), strict=True):
        expected = exact(mpmath.mpf(float(argument)))
        if abs(expected) < float(info.tiny) * 4:
            assert abs(float(got)) <= float(info.tiny) * 4
            continue
        error = abs(mpmath.mpf(float(got)) - expected) / abs(expected)
        assert error <= 8 * float(info.eps), (argument, float(error))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_complex_step_gives_the_derivative(name: str) -> None:
    ours, exact = FUNCTIONS[name]
    x = X[np.abs(X) < 300]
    got = ours(x + 1e-100j)
    assert got.dtype == np.complex128
    np.testing.assert_allclose(got.real, ours(x), rtol=1e-14, atol=1e-15)
    expected = np.array([float(mpmath.diff(exact, mpmath.mpf(v))) for v in x])
    np.testing.assert_allclose(got.imag / 1e-100, expected, rtol=1e-12, atol=1e-15)
