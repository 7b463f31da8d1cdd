"""Each task is equal to a plain definition of it, row by row."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.experiments.blind import blind
from numpy_xlstm.experiments.catalogue import EXPERIMENTS, LANGUAGES, Experiment
from numpy_xlstm.experiments.tasks import memory
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Batch


def make(name: str, seed: int, batch: int, lengths: tuple[int, int], **options: int) -> Batch:
    sample = memory.recall if name == "recall" else EXPERIMENTS[name].sample
    return sample(np.random.default_rng(seed), batch, lengths, **options)


def parts(batch: Batch) -> tuple[Array, Array, Array]:
    assert batch.mask is not None
    return batch.inputs, batch.targets, batch.mask


SEEDS = st.integers(0, 2**32)
LENGTHS = st.tuples(st.integers(1, 12), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1]))


def rows(
    name: str, seed: int, lengths: tuple[int, int], count: int = 20
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the string of each row and its answer, after a check of the layout."""
    batch = make(name, seed, count, lengths)
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


String = list[int]


def parity(w: String) -> String:
    return [1 + w.count(2) % 2]


def even_pairs(w: String) -> String:
    return [1 if w[0] == w[-1] else 2]


def cycle_navigation(w: String) -> String:
    return [4 + (w.count(2) - w.count(3)) % 5]


def majority(w: String) -> String:
    (answer, most), *others = Counter(w).most_common()
    assert all(count < most for _, count in others)
    return [answer]


def majority_count(w: String) -> String:
    return [min(63, max(w.count(symbol) for symbol in w))]


def missing_duplicate(w: String) -> String:
    half = len(w) // 2
    (missing,) = (a for a, b in zip(w[:half], w[half:], strict=True) if a != b == 10)
    assert sum(a != b for a, b in zip(w[:half], w[half:], strict=True)) == 1
    return [missing]


def marked(w: String, mark: int) -> String:
    assert w.index(mark) == len(w) - 1
    return w[:-1]


def repetition(w: String) -> String:
    return marked(w, 11)


def reverse_string(w: String) -> String:
    return marked(w, 11)[::-1]


def odds_first(w: String) -> String:
    return marked(w, 11)[0::2] + marked(w, 11)[1::2]


def ordered_set(w: String) -> String:
    return list(dict.fromkeys(marked(w, 127)))


def stack_manipulation(w: String) -> String:
    stack: String = []
    for symbol in marked(w, 10):
        stack = stack[:-1] if symbol == 9 else [*stack, (symbol - 1) % 4 + 1]
    assert w[0] < 5
    assert all(b > 4 or a < 5 for a, b in pairwise(w))  # the stack comes first
    return stack or [0]


def value(symbols: str, w: String) -> int:
    return int(eval("".join(symbols[i] for i in w))) % 5


def modular_arithmetic(w: String) -> String:
    return [5 + value(" +-*=01234", marked(w, 4))]


def modular_arithmetic_brackets(w: String) -> String:
    return [7 + value(" +-*=()01234", marked(w, 4))]


def solve_equation(w: String) -> String:
    left, (right,) = marked(w, 8)[:-2], marked(w, 8)[-1:]
    assert w[-3] == 4
    assert left.count(7) == 1
    return [9 + x for x in range(5) if 9 + value(f" +-*=(){x} 01234", left) == right]


DEFINITIONS: dict[str, Callable[[String], String]] = {
    "parity": parity,
    "parity-own-shares": parity,
    "even-pairs": even_pairs,
    "cycle-navigation": cycle_navigation,
    "majority": majority,
    "majority-count": majority_count,
    "bucket-sort": sorted,
    "missing-duplicate": missing_duplicate,
    "repetition": repetition,
    "reverse-string": reverse_string,
    "odds-first": odds_first,
    "set": ordered_set,
    "stack-manipulation": stack_manipulation,
    "modular-arithmetic": modular_arithmetic,
    "modular-arithmetic-brackets": modular_arithmetic_brackets,
    "solve-equation": solve_equation,
}


UNREAD = {"cycle-navigation": {4, 5, 6, 7, 8}, "solve-equation": {3}}
"""Ids that no input has: places on the cycle, which are answers only, and ×."""


def counted(name: str, symbols: int) -> int:
    """Return the length of the string, of which the inputs have so many symbols."""
    more = {"missing-duplicate": symbols // 2, "solve-equation": 3}
    one = {"repetition", "reverse-string", "odds-first", "set", "stack-manipulation"}
    one |= {"modular-arithmetic", "modular-arithmetic-brackets"}
    return symbols - more.get(name, name in one)


@pytest.mark.parametrize("name", DEFINITIONS)
@given(seed=SEEDS, lengths=LENGTHS)
def test_answers_are_those_of_the_definition(
    name: str, seed: int, lengths: tuple[int, int]
) -> None:
    even = name == "modular-arithmetic"  # rounded down
    for string, answer in rows(name, seed, lengths):
        assert lengths[0] - even <= counted(name, len(string)) <= lengths[1]
        assert answer == DEFINITIONS[name](string)


def test_the_most_frequent_symbol_is_any_of_them() -> None:
    """Where several were, neither the first nor the last of the row is preferred."""
    first = [string[0] == answer[0] for string, answer in rows("majority", 0, (3, 3), 4000)]
    assert np.mean(first) == pytest.approx(2 / 3, abs=0.03)


def test_rows_have_their_own_shares_of_ones() -> None:
    batch = make("parity-own-shares", 0, 4000, (60, 60))
    share = np.mean(batch.inputs == 2, axis=1)
    count, _ = np.histogram(share, 6, (0, 1))
    assert count.min() > 0.13 * 4000  # 1/6 each
    assert np.corrcoef(batch.inputs[:, 0], share)[0, 1] == pytest.approx(3**-0.5, abs=0.05)


def test_a_majority_of_more_than_the_vocabulary() -> None:
    _, targets, mask = parts(make("majority-count", 0, 2, (6000, 6000)))
    assert targets[mask].tolist() == [63, 63]


def test_each_symbol_of_the_repetition_may_be_missing() -> None:
    places = {string.index(10) for string, _ in rows("missing-duplicate", 0, (5, 5), 100)}
    assert places == {5, 6, 7, 8, 9}


def test_a_pop_of_an_empty_stack_does_nothing() -> None:
    popped = 0
    for string, answer in rows("stack-manipulation", 0, (6, 6), 4000):
        assert answer == stack_manipulation(string)
        popped += string[1:3] == [9, 9] and 9 not in string[3:]
    assert popped > 9


@pytest.mark.parametrize(
    ("name", "symbols", "operators"),
    [
        ("modular-arithmetic-brackets", " +-*=()ddddd", "+-*"),
        ("solve-equation", " +-*=()d=ddddd", "+-"),
    ],
)
def test_expressions_have_their_grammar(name: str, symbols: str, operators: str) -> None:
    expressions = ["".join(symbols[i] for i in w).split("=")[0] for w, _ in rows(name, 0, (1, 40))]
    assert {symbol for e in expressions for symbol in e} == {*"d()", *operators}
    for expression in expressions:
        reduced = re.sub(r"\(-?d\)", "e", expression)
        while (shorter := re.sub(r"\((e|-?d)[-+*](e|-?d)\)", "e", reduced)) != reduced:
            reduced = shorter
        assert reduced in {"d", "-d", "e"}


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
    np.testing.assert_allclose(error, EXPERIMENTS["nearest-neighbour"].chance, rtol=0.03)


def own(targets: Callable[[Array, Array], Array], metric: str = "accuracy") -> Experiment:
    """Return a task whose answers are a function of the length of a row and the place in it."""

    def sample(rng: np.random.Generator, batch: int, length: tuple[int, int]) -> Batch:
        n, place = rng.integers(length[0], length[1] + 1, (batch, 1)), np.arange(2 * length[1])
        mask = (n - 1 <= place) & (place < 2 * n - 1)
        inputs = np.where(place < n, rng.integers(1, 4, mask.shape), 0)
        return Batch(inputs, np.where(mask, targets(n, place), 0), mask)

    return Experiment("", sample, 7, 1 / 7, metric=metric)


def test_the_blind_answer_knows_lengths_and_places() -> None:
    rule = own(lambda n, place: (2 * n + place) % 7)
    assert blind(rule, (3, 20)) == 0
    assert blind(own(lambda n, place: (2.0 * n + place) / 7, "squared error"), (3, 20)) < 1e-20
    roots = own(lambda n, place: np.sqrt(np.arange(len(n))[:, None] % 49).astype(int))
    assert 1 - blind(roots, (3, 20)) == pytest.approx((13 / 49 - 1 / 7) / (6 / 7), abs=0.02)


@pytest.mark.parametrize(
    ("size", "pairs", "vocabulary"),
    [("64-4", 4, 64), ("64-4-vocabulary-256", 4, 256), ("128-8", 8, 64)],
)
def test_a_blind_answer_names_a_value_of_the_row(size: str, pairs: int, vocabulary: int) -> None:
    experiment, chance = EXPERIMENTS[f"recall-{size}"], 2 / vocabulary
    error = blind(experiment, experiment.test)
    assert 1 - error == pytest.approx((1 / pairs - chance) / (1 - chance), abs=0.005)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("parity", -0.03, 0.03),
        ("majority-count", 0.38, 0.42),
        ("bucket-sort", 0.72, 0.74),
        ("modular-arithmetic-brackets", 0.07, 0.14),
    ],
)
def test_blind_accuracies(name: str, least: float, most: float) -> None:
    assert least < 1 - blind(EXPERIMENTS[name], (40, 256)) < most


def test_blind_errors() -> None:
    nearest, text = EXPERIMENTS["nearest-neighbour"], EXPERIMENTS["ablation"]
    assert blind(nearest, (63, 63)) == pytest.approx(nearest.chance, rel=0.01)
    assert text.held_out is not None
    count = np.bincount(text.held_out(np.random.default_rng(0), 8192, (128, 128)).inputs.ravel())
    share = count[count > 0] / count.sum()
    assert blind(text, (128, 128)) == pytest.approx(-share @ np.log2(share), rel=0.003)


@pytest.mark.parametrize("name", ["parity", "recall", "nearest-neighbour", *LANGUAGES])
def test_the_batch_depends_on_the_seed_only(name: str) -> None:
    one, two, other = (parts(make(name, seed, 9, (3, 9))) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_answer_and_every_length_occurs(name: str) -> None:
    vocabulary = EXPERIMENTS[name].vocabulary
    assert vocabulary is not None
    inputs, targets, mask = parts(make(name, 0, 4000, (3, 12)))
    assert set(np.unique(inputs)) == set(range(vocabulary)) - UNREAD.get(name, set())
    lengths, count = np.unique(mask.argmax(1) + 1, return_counts=True)
    step = 2 if name == "modular-arithmetic" else 1
    assert [counted(name, n) for n in lengths.tolist()] == list(range(3, 13, step))
    assert count.min() > 0.8 * count.mean()
    # A count of 63 needs long strings, and the answer 0 an empty stack.
    classes, count = np.unique(targets[mask & (targets > 0)], return_counts=True)
    if name != "majority-count":
        assert len(classes) == round(1 / EXPERIMENTS[name].chance)
        assert count.min() > 0.5 * count.mean()
