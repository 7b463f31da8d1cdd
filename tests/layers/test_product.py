"""x Wᵀ is the same in every way that it is formed."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.layers.product import BLOCK, LARGE, LONG, times_transposed

ROWS = [0, 1, 2, 3, 12, 13, 128, 129]
WEIGHTS = [(3, 5), (3 * BLOCK, 5), (LARGE // 64, 64), (LARGE // LONG, LONG), (2 * LONG, LONG + 1)]
"""Some that can and some that cannot be cut into blocks, small and large, of short and long rows.
"""


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("shape", WEIGHTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_every_way_gives_the_same(rows: int, shape: tuple[int, int], dtype: Any) -> None:
    rng = np.random.default_rng(rows)
    x, W = (_draw(rng, s, dtype) for s in ((rows, shape[1]), shape))
    y = times_transposed(x, W)
    largest = np.abs(x) @ np.abs(W).T
    error = np.abs(y - np.einsum("nd,od->no", x, W)) / largest
    assert error.max(initial=0) < 10 * np.finfo(dtype).eps
    assert y.dtype == dtype
    assert y.flags.c_contiguous


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("shape", WEIGHTS)
def test_layout_does_not_matter(rows: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(rows)
    x, W = rng.standard_normal((rows, shape[1])), rng.standard_normal(shape)
    expected = times_transposed(x, W)
    y = times_transposed(np.asfortranarray(x), np.repeat(W, 2, axis=1)[:, ::2])
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("shape", WEIGHTS)
def test_one_complex_factor_is_enough(rows: int, shape: tuple[int, int]) -> None:
    """So it is where a complex step is taken in one parameter alone."""
    rng = np.random.default_rng(rows)
    x, W = rng.standard_normal((rows, shape[1])), rng.standard_normal(shape)
    dW = 1e-100j * rng.standard_normal(shape)
    y = times_transposed(x, W + dW)
    np.testing.assert_allclose(y.real, x @ W.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(y.imag, x @ dW.imag.T, rtol=0, atol=1e-112)


@pytest.mark.parametrize("shape", WEIGHTS)
def test_inputs_are_not_modified(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for rows in ROWS:
        x, W = rng.standard_normal((rows, shape[1])), rng.standard_normal(shape)
        copies = x.copy(), W.copy()
        times_transposed(x, W)
        assert np.array_equal(x, copies[0])
        assert np.array_equal(W, copies[1])


def _draw(rng: np.random.Generator, shape: tuple[int, int], dtype: Any) -> Any:
    real = rng.standard_normal(shape)
    if np.dtype(dtype).kind != "c":
        return real.astype(dtype)
    return (real + 1j * rng.standard_normal(shape)).astype(dtype)
