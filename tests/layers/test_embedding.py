from typing import Any, cast

import numpy as np
import pytest

from numpy_xlstm.layers import Embedding
from numpy_xlstm.numerics import Array
from tests.samples import is_normal

V, D = 7, 3


def layer(dtype: Any = np.float64) -> Embedding:
    return Embedding(V, D, dtype=dtype, rng=np.random.default_rng(1))


def scatter(tokens: Array, dy: Array) -> Array:
    """Compute the sum of embedding.2, one term at a time."""
    total = np.zeros((V, D))
    for index in np.ndindex(tokens.shape):
        total[tokens[index]] += dy[index]
    return total


@pytest.mark.parametrize("shape", [(), (30,), (2, 5), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.uint64])
def test_lookup_and_its_transpose(shape: tuple[int, ...], dtype: Any, kind: Any) -> None:
    rng, embedding = np.random.default_rng(2), layer(dtype)
    tokens = np.asarray(rng.integers(0, V, shape)).astype(kind)
    y, cache = embedding.forward(tokens)
    dy = rng.standard_normal((*shape, D)).astype(dtype)
    nothing, grads = cast(Any, embedding).backward(dy, cache)
    assert y.shape == dy.shape
    for index in np.ndindex(shape):
        np.testing.assert_array_equal(y[index], embedding.params["weight"][tokens[index]])
    assert nothing is None
    assert y.dtype == grads["weight"].dtype == dtype
    tolerance = 2e-6 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(grads["weight"], scatter(tokens, dy.real), rtol=0, atol=tolerance)


def test_the_output_is_no_view_of_the_table() -> None:
    embedding = layer()
    before = embedding.params["weight"].copy()
    y = embedding(np.arange(V))
    y += 1
    np.testing.assert_array_equal(embedding.params["weight"], before)


def test_initial_values_are_standard_normal() -> None:
    weight = Embedding(300, 300, rng=np.random.default_rng(4)).params["weight"]
    assert is_normal(1, weight)
