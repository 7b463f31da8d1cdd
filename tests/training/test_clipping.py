from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.errors import NonFiniteError
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import clip_grad_norm, global_norm


def draw(seed: int, scale: float = 1.0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {"W": scale * rng.standard_normal((3, 4)), "b": scale * rng.standard_normal(5)}


@given(st.integers(0, 2**32), st.floats(1e-9, 1e3), st.floats(1e-9, 1e3))
def test_the_norm_ends_at_the_limit_and_the_direction_stays(
    seed: int, scale: float, limit: float
) -> None:
    grads = draw(seed, scale)
    joined = np.concatenate([g.ravel() for g in grads.values()])
    clipped, norm = clip_grad_norm(grads, limit)
    result = np.concatenate([g.ravel() for g in clipped.values()])
    assert norm == pytest.approx(np.linalg.norm(joined), rel=1e-14)
    np.testing.assert_allclose(result, joined * min(1, limit / (norm + 1e-6)), rtol=1e-14)


@pytest.mark.parametrize("limit", [1e-3, np.inf])
def test_gradients_are_not_modified(limit: float) -> None:
    grads = draw(1)
    clipped, _ = clip_grad_norm(grads, limit)
    assert clipped is not grads
    for name, grad in draw(1).items():
        np.testing.assert_array_equal(grads[name], grad)
        assert (clipped[name] is grads[name]) == (limit == np.inf)


def test_nothing_to_clip() -> None:
    assert clip_grad_norm({"a": np.zeros(3)}, 1.0)[1] == 0.0
    assert clip_grad_norm({}, 1.0) == ({}, 0.0)


@pytest.mark.parametrize(
    ("arrays", "norm"),
    [
        ([[3e300], [4e300]], 5e300),
        ([[3e-300], [4e-300]], 5e-300),
        ([[3e160], [4e160]], 5e160),
        ([[3e-160], [4e-160]], 5e-160),
        ([[3e200], [4e-200]], 3e200),
        ([[5e-324]], 5e-324),
        ([np.zeros((0, 3))], 0.0),
    ],
)
def test_no_overflow_and_no_underflow(arrays: Any, norm: float) -> None:
    grads = {str(n): np.array(array) for n, array in enumerate(arrays)}
    assert global_norm(grads) == pytest.approx(norm, rel=1e-14, abs=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("first", [True, False])
def test_a_norm_that_is_not_finite(value: float, first: bool) -> None:
    grads = draw(3)
    grads["W" if first else "b"].flat[2] = value
    with pytest.raises(NonFiniteError, match=f"finite norm; got .*in {'W' if first else 'b'}\\)"):
        clip_grad_norm(grads, float("inf"))


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1.0, 1e30, 1e38])
def test_float32_is_summed_in_float64(scale: float) -> None:
    ones = np.ones(10**6, np.float32) * np.float32(scale)
    assert global_norm({"a": ones}) == pytest.approx(1e3 * float(ones[0]), rel=1e-11)
