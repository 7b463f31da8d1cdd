from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.layers import Embedding
from numpy_xlstm.numerics import Array

V, D = 7, 3


def layer(dtype: Any = np.float64) -> Embedding:
    return Embedding(V, D, dtype=dtype, rng=np.random.default_rng(1))


def scatter(tokens: Array, dy: Array) -> Array:
    """Compute the sum of embedding.2, one term at a time."""
    total = np.zeros((V, D))
    for index in np.ndindex(tokens.shape):
        total[tokens[index]] += dy[index]
    return total


@given(
    st.lists(st.integers(0, V - 1), max_size=30),
    st.sampled_from([np.uint8, np.int16, np.int64, np.uint64]),
    st.integers(0, 2**32),
)
def test_lookup_and_its_transpose(ids: list[int], dtype: Any, seed: int) -> None:
    tokens = np.array(ids, dtype)
    embedding = layer()
    y, cache = embedding.forward(tokens)
    dy = np.random.default_rng(seed).standard_normal(y.shape)
    nothing, grads = cast(Any, embedding).backward(dy, cache)
    weight = embedding.params["weight"]
    np.testing.assert_array_equal(y, np.array([weight[i] for i in ids]).reshape(-1, D))
    assert nothing is None
    assert grads.keys() == {"weight"}
    np.testing.assert_allclose(grads["weight"], scatter(tokens, dy), rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(), (4,), (2, 5), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_any_shape_and_dtype(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(2)
    tokens = np.asarray(rng.integers(0, V, shape))
    embedding = layer(dtype)
    y, cache = embedding.forward(tokens)
    dy = rng.standard_normal((*shape, D)).astype(dtype)
    _, grads = embedding.backward(dy, cache)
    assert y.shape == dy.shape
    assert y.dtype == grads["weight"].dtype == dtype
    np.testing.assert_allclose(grads["weight"], scatter(tokens, dy.real), rtol=0, atol=2e-6)


def test_the_output_is_no_view_of_the_table() -> None:
    embedding = layer()
    before = embedding.params["weight"].copy()
    y = embedding(np.arange(V))
    y += 1
    np.testing.assert_array_equal(embedding.params["weight"], before)


def test_initial_values_are_standard_normal() -> None:
    weight = Embedding(300, 300, rng=np.random.default_rng(4)).params["weight"]
    assert abs(weight.mean()) < 0.02
    assert abs(weight.std() - 1) < 0.02
