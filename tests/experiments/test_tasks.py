"""Each task is equal to a plain definition of it, row by row."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.experiments.tasks import TASKS
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Batch


def make(name: str, seed: int, batch: int, lengths: tuple[int, int], **options: int) -> Batch:
    return TASKS[name].sample(np.random.default_rng(seed), batch, lengths, **options)


SEEDS = st.integers(0, 2**32)
LENGTHS = st.tuples(st.integers(1, 12), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1]))


def rows(name: str, seed: int, lengths: tuple[int, int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the string of each row and its answer, after a check of the layout."""
    batch = make(name, seed, 20, lengths)
    assert batch.mask is not None
    assert batch.inputs.shape == batch.targets.shape == batch.mask.shape
    last = 0
    for inputs, targets, mask in zip(batch.inputs, batch.targets, batch.mask, strict=True):
        (at,) = np.nonzero(mask)
        n = at[0] + 1
        assert at.tolist() == list(range(at[0], at[-1] + 1))  # the answer is contiguous
        assert (inputs[:n] > 0).all()
        assert not inputs[n:].any()
        assert not targets[~mask].any()
        last = max(last, at[-1])
        yield inputs[:n].tolist(), targets[mask].tolist()
    assert last == batch.inputs.shape[1] - 1


def expect_parity(string: list[int]) -> list[int]:
    return [1 + string.count(2) % 2]


@given(SEEDS, LENGTHS)
def test_parity(seed: int, lengths: tuple[int, int]) -> None:
    for string, answer in rows("parity", seed, lengths):
        assert lengths[0] <= len(string) <= lengths[1]
        assert answer == expect_parity(string)


@given(SEEDS, st.integers(1, 5), st.integers(0, 3), st.integers(0, 9), st.integers(40, 90))
def test_recall(seed: int, few: int, more: int, context: int, vocabulary: int) -> None:
    most = few + more
    batch = make("recall", seed, 20, (few, most), context=4 * most + context, vocabulary=vocabulary)
    assert batch.inputs.shape == (20, 4 * most + context)
    assert batch.mask is not None
    half = vocabulary // 2
    for inputs, targets, mask in zip(batch.inputs, batch.targets, batch.mask, strict=True):
        pairs = int(mask.sum())
        assert few <= pairs <= most
        stored = dict(zip(inputs[: 2 * pairs : 2], inputs[1 : 2 * pairs : 2], strict=True))
        assert len(stored) == len(set(stored.values())) == pairs
        assert all(1 <= key < half <= value < vocabulary for key, value in stored.items())
        assert sorted(inputs[mask]) == sorted(stored)
        assert targets[mask].tolist() == [stored[key] for key in inputs[mask]]
        assert not targets[~mask].any()
        assert not mask[: 2 * pairs].any()
        assert not mask[2 * pairs + 1 :: 2].any()
        rest = inputs[2 * pairs :][~mask[2 * pairs :]]
        assert ((half <= rest) & (rest < vocabulary)).all()


def test_a_key_is_asked_soon_by_a_power_law() -> None:
    batch = make("recall", 0, 20_000, (1, 1), context=22)
    assert batch.mask is not None
    count = batch.mask[:, 2::2].sum(0)
    law = np.arange(1.0, 11.0) ** -0.99
    np.testing.assert_allclose(count / 20_000, law / law.sum(), atol=0.012)


@given(SEEDS, LENGTHS)
def test_nearest_neighbour(seed: int, lengths: tuple[int, int]) -> None:
    batch = make("nearest-neighbour", seed, 20, lengths)
    assert batch.mask is not None
    assert batch.inputs.shape == (*batch.targets.shape, 3)
    for inputs, targets, mask in zip(batch.inputs, batch.targets, batch.mask, strict=True):
        n = int(mask.sum())
        assert mask.tolist() == [False] + [True] * n + [False] * (len(mask) - 1 - n)
        assert lengths[0] <= n <= lengths[1]
        points, values = inputs[: n + 1, :2], inputs[1 : n + 1, 2]
        far = np.linalg.norm(points[1:] - points[0], axis=1)
        assert targets[mask].tolist() == [values[np.argmin(far[:t])] for t in range(1, n + 1)]
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-15)
        assert inputs[0, 2] == 0
        assert not inputs[n + 1 :].any()
        assert not targets[~mask].any()
        assert ((values >= 0) & (values < 1)).all()


def test_the_error_of_a_constant_guess() -> None:
    batch = make("nearest-neighbour", 0, 2000, (1, 20))
    error = np.mean((batch.targets[batch.mask] - 0.5) ** 2)
    np.testing.assert_allclose(error, TASKS["nearest-neighbour"].chance, rtol=0.03)


def parts(batch: Batch) -> tuple[Array, Array, Array]:
    assert batch.mask is not None
    return batch.inputs, batch.targets, batch.mask


@pytest.mark.parametrize("name", TASKS)
def test_the_batch_depends_on_the_seed_only(name: str) -> None:
    one, two, other = (parts(make(name, seed, 9, (3, 9))) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0], other[0])


LANGUAGES = [name for name, task in TASKS.items() if name not in {"recall", "nearest-neighbour"}]


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_answer_and_every_length_occurs(name: str) -> None:
    vocabulary = TASKS[name].vocabulary
    inputs, targets, mask = parts(make(name, 0, 4000, (3, 12)))
    assert vocabulary is not None
    assert set(np.unique(inputs)) <= set(range(vocabulary))
    classes, count = np.unique(targets[mask], return_counts=True)
    assert len(classes) == round(1 / TASKS[name].chance)
    assert count.min() > 0.5 * count.mean()
    lengths, count = np.unique(mask.argmax(1) + 1, return_counts=True)
    assert lengths.tolist() == list(range(3, 13))
    assert count.min() > 0.8 * count.mean()
