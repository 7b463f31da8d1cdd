from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.layers import soft_cap, soft_cap_backward

caps = st.floats(0.1, 100)


@pytest.mark.parametrize("cap", [15.0, 30, 0.3])
def test_value_and_slope_keep_their_digits(cap: float) -> None:
    x = cap * np.array([-300.0, -20, -9, -0.5, -1e-9, 0, 1e-200, 0.7, 3, 19, 300])
    y, cache = soft_cap(x, cap)
    dx = soft_cap_backward(np.full(x.shape, 2.0), cache)
    with mpmath.workdps(60):
        for at, value, slope in zip(x.tolist(), y.tolist(), dx.tolist(), strict=True):
            v = mpmath.mpf(at) / mpmath.mpf(cap)
            exact, exact_slope = mpmath.mpf(cap) * mpmath.tanh(v), 2 * mpmath.sech(v) ** 2
            assert abs(value - exact) <= 1e-15 * abs(exact)
            assert abs(slope - exact_slope) <= 1e-15 * float(2 + abs(v)) * exact_slope


@given(caps, st.lists(st.floats(-1e30, 1e30), max_size=6))
def test_it_is_odd_and_never_beyond_the_cap(cap: float, values: list[float]) -> None:
    x = np.array(values)
    y, _ = soft_cap(x, cap)
    assert (np.abs(y) <= cap).all()
    assert (np.abs(y) <= np.abs(x) * (1 + 1e-15) + 1e-300).all()
    np.testing.assert_array_equal(soft_cap(-x, cap)[0], -y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_arguments_reach_the_cap_without_a_warning(dtype: Any) -> None:
    y, cache = soft_cap(np.array([-1e30, 1e30], dtype), 15.0)
    assert y.tolist() == [-15.0, 15.0]
    assert soft_cap_backward(np.ones(2, dtype), cache).tolist() == [0.0, 0.0]
