"""Activations, soft caps, dropout and the cotangent of a loss."""

from collections.abc import Callable
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import (
    Activation,
    Dropout,
    Linear,
    SoftCap,
    gradcheck,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)
from numpy_xlstm.errors import CacheError
from numpy_xlstm.layers import ACTIVATIONS
from numpy_xlstm.numerics import Array
from tests.layers.points import leading, seeds

X = np.random.default_rng(0).standard_normal((2, 3))
DROPOUT = Dropout(0.5)

Pair = tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]
LAYERS = {name: Activation(name) for name in ACTIVATIONS} | {"cap": SoftCap(2.0)}


def pair(layer: Activation) -> Pair:
    """Return a layer as a pair of functions of x alone."""
    return layer.forward, lambda dy, cache: layer.backward(dy, cache)[0]


PAIRS: dict[str, Pair] = {
    **{name: pair(layer) for name, layer in LAYERS.items()},
    "Dropout.forward": (lambda x: DROPOUT.forward(x, np.random.default_rng(1)), DROPOUT.backward),
    "Dropout.forward without rng": (DROPOUT.forward, DROPOUT.backward),
}
pairs = pytest.mark.parametrize("name", PAIRS)


@pairs
def test_a_cache_of_another_origin(name: str) -> None:
    forward, backward = PAIRS[name]
    own = forward(X)[1]
    for nothing in (None, X, (X, X), ACTIVATIONS["sigmoid"].forward(X)[1]):
        got = f"cache: expected the LayerCache that this .*; got {type(nothing).__name__}"
        with pytest.raises(CacheError, match=got):
            backward(X, nothing)
    for other in (Linear(3, 3).forward, *(f for f, _ in PAIRS.values())):
        cache = other(X)[1]
        if cache.layer is not own.layer:
            with pytest.raises(CacheError, match=r"cache: expected one that this .*; got one of a"):
                backward(X, cache)


SHAPES: list[tuple[int, ...]] = [(1,), (0, 3), (2, 1, 2)]


@pytest.mark.parametrize(("name", "shape"), [*product(PAIRS, SHAPES)], ids=str)
def test_any_shape(name: str, shape: tuple[int, ...]) -> None:
    forward, backward = PAIRS[name]
    x = np.random.default_rng(2).standard_normal(shape)
    y, cache = forward(x)
    assert isinstance(y, np.ndarray)
    dx = backward(np.cos(y), cache)
    assert y.shape == dx.shape == shape
    flat, flat_cache = forward(x.reshape(-1))
    np.testing.assert_array_equal(y.reshape(-1), flat)
    np.testing.assert_array_equal(dx.reshape(-1), backward(np.cos(flat), flat_cache))
    if x.size:
        report = gradcheck((forward, backward), x, rng=0)
        assert report.passed, str(report)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
@pytest.mark.parametrize("dloss", [2, 2.0, np.float32(2), np.float64(2), np.array(2.0)])
def test_a_cotangent_of_the_loss_is_a_number_of_any_real_kind(dtype: Any, dloss: Any) -> None:
    cache = softmax_cross_entropy(X.astype(dtype), np.array([0, 2]))[1]
    once: Array = softmax_cross_entropy_backward(1.0, cache)
    twice = softmax_cross_entropy_backward(dloss, cache)
    assert twice.dtype == dtype
    np.testing.assert_array_equal(twice, 2 * once)


@pytest.mark.parametrize("cap", [15.0, 30, 0.3])
def test_value_and_slope_keep_their_digits(cap: float) -> None:
    x = cap * np.array([-300.0, -20, -9, -0.5, -1e-9, 0, 1e-200, 0.7, 3, 19, 300])
    layer = SoftCap(cap)
    y, cache = layer.forward(x)
    dx, _ = layer.backward(np.full(x.shape, 2.0), cache)
    with mpmath.workdps(60):
        for at, value, slope in zip(x.tolist(), y.tolist(), dx.tolist(), strict=True):
            v = mpmath.mpf(at) / mpmath.mpf(cap)
            exact, exact_slope = mpmath.mpf(cap) * mpmath.tanh(v), 2 * mpmath.sech(v) ** 2
            assert abs(value - exact) <= 1e-15 * abs(exact)
            assert abs(slope - exact_slope) <= 1e-15 * float(2 + abs(v)) * exact_slope


@given(st.floats(0.1, 100), st.lists(st.floats(-1e30, 1e30), max_size=6))
def test_it_is_odd_and_never_beyond_the_cap(cap: float, values: list[float]) -> None:
    x = np.array(values)
    y = SoftCap(cap)(x)
    assert (np.abs(y) <= cap).all()
    assert (np.abs(y) <= np.abs(x) * (1 + 1e-15) + 1e-300).all()
    np.testing.assert_array_equal(SoftCap(cap)(-x), -y)


@given(st.floats(0.01, 0.9), leading, seeds)
def test_entries_are_zero_or_scaled_and_so_are_their_cotangents(
    p: float, shape: tuple[int, ...], seed: int
) -> None:
    dropout, rng = Dropout(p), np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape, 5))
    y, cache = dropout.forward(x, rng)
    dx = dropout.backward(dy, cache)
    dropped = y == 0
    np.testing.assert_array_equal(dx == 0, dropped)
    np.testing.assert_array_equal(y[~dropped], x[~dropped] * (1 / (1 - p)))
    np.testing.assert_array_equal(dx[~dropped], dy[~dropped] * (1 / (1 - p)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_mean_stays_and_the_share_of_zeros_is_p(p: float) -> None:
    n = 200_000
    y, _ = Dropout(p).forward(np.full(n, 3.0), np.random.default_rng(0))
    deviation = (p / (1 - p) / n) ** 0.5
    assert abs(y.mean() / 3 - 1) < 4 * deviation
    assert abs((y == 0).mean() - p) < 4 * (p * (1 - p) / n) ** 0.5
