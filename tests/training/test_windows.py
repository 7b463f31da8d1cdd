from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.training import consecutive_windows, random_windows
from numpy_xlstm.training.text import parallel_rows


def test_windows_are_contiguous_and_reach_both_ends() -> None:
    ids = 10 + np.arange(12)
    batches = random_windows(ids, 4, 5, np.random.default_rng(0))
    firsts, lasts = set(), set()
    for _ in range(100):
        inputs, targets, mask, fresh = next(batches)
        assert (mask, fresh) == (None, True)
        assert inputs.shape == targets.shape == (4, 5)
        assert (np.diff(inputs) == 1).all()
        assert (targets == inputs + 1).all()
        firsts |= set(inputs[:, 0].tolist())
        lasts |= set(targets[:, -1].tolist())
    assert firsts == set(range(10, 17))
    assert max(lasts) == 21


def test_the_only_window_there_is() -> None:
    batch = next(random_windows(np.arange(6), 2, 5, np.random.default_rng(0)))
    assert batch.inputs.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_a_generator_in_the_same_state_goes_on_with_the_same_windows() -> None:
    one, two = np.random.default_rng(7), np.random.default_rng(8)
    whole = random_windows(np.arange(99), 3, 4, one)
    next(whole)
    two.bit_generator.state = one.bit_generator.state
    rest = random_windows(np.arange(99), 3, 4, two)
    for _ in range(3):
        np.testing.assert_array_equal(next(whole).inputs, next(rest).inputs)


@given(st.integers(2, 60), st.integers(1, 8), st.integers(1, 70))
def test_consecutive_windows_cover_rows_of_the_text_without_a_gap(
    n: int, rows: int, window: int
) -> None:
    rows = min(rows, n - 1)
    length = (n - 1) // rows
    batches = consecutive_windows(np.arange(n), rows, window)
    first = next(batches)
    taken = [first]
    while not (batch := next(batches)).fresh:
        taken.append(batch)
    assert first.fresh
    np.testing.assert_array_equal(batch.inputs, first.inputs)
    inputs = np.concatenate([b.inputs for b in taken], axis=1)
    targets = np.concatenate([b.targets for b in taken], axis=1)
    np.testing.assert_array_equal(inputs, np.arange(rows * length).reshape(rows, length))
    np.testing.assert_array_equal(targets, inputs + 1)
    widths = {b.inputs.shape[1] for b in taken}
    assert 1 <= min(widths) <= max(widths) <= min(window, min(widths) + 1)
    assert len(taken) == -(-length // window)


@pytest.mark.parametrize("start", [0, 1, 4, 5, 13])
def test_consecutive_windows_from_any_of_them_on(start: int) -> None:
    whole = consecutive_windows(np.arange(50), 2, 5)
    for _ in range(start):
        next(whole)
    rest = consecutive_windows(np.arange(50), 2, 5, start)
    for _ in range(7):
        expected, found = next(whole), next(rest)
        np.testing.assert_array_equal(found.inputs, expected.inputs)
        assert found.fresh == expected.fresh


@given(st.integers(2, 60), st.integers(1, 70))
def test_rows_predict_every_id_but_the_first_of_each(n: int, rows: int) -> None:
    inputs, targets = parallel_rows(np.arange(n), rows)
    assert inputs.shape == targets.shape
    assert len(inputs) == min(rows, n // 2)
    predicted = targets != -1
    np.testing.assert_array_equal(targets[predicted], inputs[predicted] + 1)
    expected = sorted(set(range(n)) - set(inputs[:, 0].tolist()))
    assert sorted(targets[predicted].tolist()) == expected
    assert (inputs[:, 1:] == targets[:, :-1])[predicted[:, :-1]].all()
    assert predicted.any(axis=1).all()
    assert (~predicted).sum(axis=1).max() <= 1
    assert inputs.min() >= 0
    assert inputs.max() < n


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.uint64])
def test_rows_of_any_integers(dtype: Any) -> None:
    """Dtypes include those without the −1 that marks ignored targets."""
    ids = np.arange(7, dtype=dtype)
    for rows, expected in zip(parallel_rows(ids, 2), parallel_rows(np.arange(7), 2), strict=True):
        np.testing.assert_array_equal(rows, expected)
