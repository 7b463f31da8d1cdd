"""The public pairs validate their arguments, and compute the same as those without validation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    Dropout,
    Linear,
    gelu,
    gelu_backward,
    gelu_tanh,
    gelu_tanh_backward,
    gradcheck,
    silu,
    silu_backward,
    soft_cap,
    soft_cap_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)
from numpy_xlstm.errors import CacheError
from numpy_xlstm.layers import ACTIVATIONS
from numpy_xlstm.numerics import Array

X = np.random.default_rng(0).standard_normal((2, 3))
DROPOUT = Dropout(0.5)

Pair = tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]
PAIRS: dict[str, Pair] = {
    "silu": (silu, silu_backward),
    "gelu": (gelu, gelu_backward),
    "gelu_tanh": (gelu_tanh, gelu_tanh_backward),
    "soft_cap": (lambda x: soft_cap(x, 2.0), soft_cap_backward),
    "Dropout.forward": (
        lambda x: DROPOUT.forward(x, np.random.default_rng(1)),
        DROPOUT.backward,
    ),
    "Dropout.forward without rng": (DROPOUT.forward, DROPOUT.backward),
}
pairs = pytest.mark.parametrize("name", PAIRS)


@pairs
def test_a_cache_of_another_origin(name: str) -> None:
    forward, backward = PAIRS[name]
    own = forward(X)[1]
    for nothing in (
        None,
        X,
        (X, X),
        ACTIVATIONS["sigmoid"].forward(X)[1],
        Linear(3, 3).forward(X)[1],
    ):
        got = f"cache: expected the PairCache that this .*; got {type(nothing).__name__}"
        with pytest.raises(CacheError, match=got):
            backward(X, nothing)
    for other, _ in PAIRS.values():
        cache = other(X)[1]
        if cache.function != own.function:
            got = f"cache: expected one of {own.function}; got one of {cache.function}"
            with pytest.raises(CacheError, match=got):
                backward(X, cache)


@pairs
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 1, 2)])
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
