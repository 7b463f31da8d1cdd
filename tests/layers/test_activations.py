from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from numpy_xlstm.layers import ACTIVATIONS
from numpy_xlstm.numerics import Array

EPS = 2.0**-52
LINE = np.concatenate((np.linspace(-40, 40, 321), [-0.75, -1e-9, 1e-300, 5.5, -37.4]))
Exact = Callable[[Any], Any]


def value_and_slope(name: str, x: Array) -> tuple[Array, Array]:
    """Return the slope, the backward of a cotangent of 1; test_pairs.py tests that it is linear."""
    y, cache = ACTIVATIONS[name].forward(x)
    return y, ACTIVATIONS[name].backward(np.ones_like(y), cache)


def exact_sigma(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def exact_u(x: Any) -> Any:
    """2u of gelu.3."""
    return mpmath.sqrt(8 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)


def exact_du(x: Any) -> Any:
    return mpmath.sqrt(8 / mpmath.pi) * (1 + 3 * mpmath.mpf("0.044715") * x**2)


# the value, and the two terms of which the slope is the sum
EXACT: dict[str, tuple[Exact, Exact, Exact]] = {
    "swish": (
        lambda x: x * exact_sigma(x),
        exact_sigma,
        lambda x: x * exact_sigma(x) * exact_sigma(-x),
    ),
    "gelu": (lambda x: x * mpmath.ncdf(x), mpmath.ncdf, lambda x: x * mpmath.npdf(x)),
    "gelu_tanh": (
        lambda x: x * exact_sigma(exact_u(x)),
        lambda x: exact_sigma(exact_u(x)),
        lambda x: x * exact_sigma(exact_u(x)) * exact_sigma(-exact_u(x)) * exact_du(x),
    ),
}
# how much the rounding of the exponent, of this size, is magnified by the exponential
EXPONENT: dict[str, Callable[[float], float]] = {
    "swish": abs,
    "gelu": lambda x: x * x,
    "gelu_tanh": lambda x: abs(x) + abs(x) ** 3,
}


@pytest.mark.parametrize("name", list(EXACT))
def test_value_and_slope_keep_their_digits_in_both_tails(name: str) -> None:
    value, slope = value_and_slope(name, LINE)
    exact_value, first, second = EXACT[name]
    tiny = 1e6 * float(np.finfo(float).tiny)
    with mpmath.workdps(40):
        for x, y, dy in zip(LINE.tolist(), value.tolist(), slope.tolist(), strict=True):
            tolerance = 2 * EPS * (2 + EXPONENT[name](x))
            at = mpmath.mpf(x)
            assert abs(y - exact_value(at)) <= tolerance * abs(exact_value(at)) + tiny, x
            terms = abs(first(at)) + abs(second(at))
            assert abs(dy - first(at) - second(at)) <= tolerance * terms + tiny, x


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "swish", "relu", "selu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_the_asymptotes_hold_up_to_the_largest_number(name: str, dtype: Any) -> None:
    largest = np.finfo(dtype).max / 2
    for size in (200.0, 1e6, largest):
        value, slope = value_and_slope(name, np.array([-size, size], dtype))
        left, scale = (-1.7580993408473766, 1.0507009873554805) if name == "selu" else (0, 1)
        tolerance = 1e-6 if dtype == np.float32 else 1e-14
        np.testing.assert_allclose(value / [1, size], [left, scale], rtol=tolerance, atol=1e-30)
        np.testing.assert_allclose(slope, [0, scale], rtol=tolerance, atol=tolerance * 0.1)


def test_a_square_that_is_too_large_is_infinite_and_says_so() -> None:
    with pytest.warns(RuntimeWarning, match="overflow"):
        value, slope = value_and_slope("relu^2", np.array([1e30], np.float32))
    assert value == np.inf
    assert slope == np.float32(2e30)


def test_piecewise_functions_by_hand() -> None:
    x = np.array([-2.0, 0.0, 3.0])
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    value, slope = value_and_slope("relu", x)
    assert value.tolist() == [0, 0, 3]
    assert slope.tolist() == [0, 0, 1]
    value, slope = value_and_slope("relu^2", x)
    assert value.tolist() == [0, 0, 9]
    assert slope.tolist() == [0, 0, 6]
    value, slope = value_and_slope("selu", x)
    np.testing.assert_allclose(value, [scale * alpha * np.expm1(-2), 0, 3 * scale], rtol=1e-15)
    left = scale * alpha * np.exp([-2.0, 0.0])
    np.testing.assert_allclose(slope, [*left, scale], rtol=1e-15)
