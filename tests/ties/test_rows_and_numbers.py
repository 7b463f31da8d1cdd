"""Compiled norms, SiLU and convolutions agree with NumPy within a few roundings."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_xlstm.kernels import functions, maps
from numpy_xlstm.kernels.common import for_loops
from numpy_xlstm.numerics import Array

DTYPES = st.sampled_from([np.float32, np.float64])
SHAPES = st.lists(st.integers(0, 5), max_size=2).map(tuple)
SEEDS = st.integers(0, 2**32 - 1)


def both(function: Any, *args: Any) -> Any:
    """Return the results compiled and by NumPy."""
    if not functions.compiled(args[0].dtype):
        pytest.skip("needs numba")
    found = function(*args)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "compiled", lambda dtype: False)
        return found, function(*args)


def drawn(shape: tuple[int, ...], dtype: Any, seed: int, count: int) -> list[Array]:
    """Arrays in any order in memory, and with gaps."""
    rng = np.random.default_rng(seed)
    size, order = rng.choice([1e-3, 1, 30], count), rng.choice(["C", "F"], count)
    wide = [rng.standard_normal((*shape, 2)) * each for each in size]
    wide = [np.array(a, dtype, order=o) for a, o in zip(wide, order, strict=True)]
    return [a[..., 0] for a in wide]


@pytest.mark.parametrize("centred", [False, True])
def test_a_row_without_a_norm_is_nan_and_no_error(centred: bool) -> None:
    """A training then reports a divergence."""
    with np.errstate(divide="ignore", invalid="ignore"):
        for normed, scale in both(maps.normalise, np.zeros((1, 3)), 0.0, centred):
            assert np.isnan(normed).all()
            assert np.isinf(scale).all()


@settings(deadline=None)
@given(SHAPES, st.integers(1, 70), DTYPES, st.booleans(), SEEDS)
def test_rows_are_normalised_alike(
    lead: tuple[int, ...], width: int, dtype: Any, centred: bool, seed: int
) -> None:
    x, dy = drawn((*lead, width), dtype, seed, 2)
    near = 20 * np.finfo(dtype).eps
    (normed, scale), (expected, expected_scale) = both(maps.normalise, x, 1e-3, centred)
    assert normed.dtype == scale.dtype == dtype
    np.testing.assert_allclose(scale, expected_scale, rtol=near)
    largest = abs(x).max(axis=-1, keepdims=True, initial=0)
    assert (abs(normed - expected) <= near * scale * largest).all()
    dx, expected = both(maps.normalise_backward, dy, normed, scale, centred)
    largest = abs(dy).max(axis=-1, keepdims=True, initial=0)
    assert dx.dtype == dtype
    assert (abs(dx - expected) <= near * scale * largest * (1 + abs(normed))).all()


@settings(deadline=None)
@given(SHAPES, DTYPES, SEEDS)
def test_numbers_are_gated_alike(shape: tuple[int, ...], dtype: Any, seed: int) -> None:
    x, dy = drawn(shape, dtype, seed, 2)
    near = 8 * np.finfo(dtype).eps
    (y, (_, s)), (expected, (_, expected_s)) = both(maps.silu, x)
    assert y.dtype == s.dtype == dtype
    assert y.shape == s.shape == shape
    np.testing.assert_allclose(y, expected, rtol=near)
    np.testing.assert_allclose(s, expected_s, rtol=near)
    dx, expected = both(maps.silu_backward, dy, (y, s))
    assert (abs(dx - expected) <= near * abs(dy) * (1 + abs(y))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_the_range_are_gated_alike(dtype: Any) -> None:
    most = np.finfo(dtype).max
    x = np.array([-most, -1e4, -1000, -100, -0.0, 0.0, 1e-30, 100, most], dtype)
    (y, (_, s)), (expected, (_, expected_s)) = both(maps.silu, x)
    np.testing.assert_allclose(y, expected, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(s, expected_s, rtol=8 * np.finfo(dtype).eps)
    assert (s > 0).all()
    assert y[-1] == most


def assert_near(found: Array, expected: Array, terms: Array | float) -> None:
    """Compare up to a few roundings of the sum of absolute terms."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert (abs(found - expected) <= 20 * np.finfo(found.dtype).eps * terms).all()


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(0, 6), st.integers(1, 40), st.integers(1, 5), DTYPES, SEEDS)
def test_steps_are_convolved_alike(B: int, T: int, D: int, K: int, dtype: Any, seed: int) -> None:
    (x,) = drawn((B, K - 1 + T, D), dtype, seed, 1)
    (dy,) = drawn((B, T, D), dtype, seed + 1, 1)
    (taps,) = drawn((K, D), dtype, seed + 2, 1)
    y, expected = both(maps.correlate, x, taps)
    assert_near(y, expected, maps.correlate(abs(x), abs(taps)))
    (dx, dtaps), (expected, expected_taps) = both(maps.correlate_backward, dy, x, taps)
    bounds = maps.correlate_backward(abs(dy), abs(x), abs(taps))
    assert_near(dx, expected, bounds[0])
    assert_near(dtaps, expected_taps, bounds[1] * (1 + B * T))


def test_loops_are_compiled_for_one_kind_of_array() -> None:
    """An array in C-order, aligned and writable; any other one is copied."""
    array = np.arange(6.0).reshape(2, 3)
    assert for_loops(array) is array
    fixed, odd = array.view(), np.empty(49, np.uint8)[1:].view(float).reshape(2, 3)
    fixed.flags.writeable, odd[...] = False, array
    for other in (array.T.copy().T, np.repeat(array, 2, axis=1)[:, ::2], fixed, odd):
        found = for_loops(other)
        assert found.flags.carray
        np.testing.assert_array_equal(found, array)
