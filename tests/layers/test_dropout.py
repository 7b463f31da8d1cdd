from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.layers import Dropout
from tests.layers.points import leading, seeds

probabilities = st.floats(0, 0.9)


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


def test_the_same_seed_gives_the_same_zeros_and_another_does_not() -> None:
    x = np.ones((20, 20))
    first, again, other = (
        Dropout(0.5).forward(x, np.random.default_rng(seed))[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(("p", "rng"), [(0.5, None), (0.0, np.random.default_rng(0))])
def test_without_a_source_of_randomness_or_with_p_0_nothing_is_dropped(p: float, rng: Any) -> None:
    x = np.array([1.0, -2.0, 0.0])
    y, cache = Dropout(p).forward(x, rng)
    assert y.tolist() == [1.0, -2.0, 0.0]
    assert Dropout(p).backward(np.array([5.0, 6.0, 7.0]), cache).tolist() == [5.0, 6.0, 7.0]
