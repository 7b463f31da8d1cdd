from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import exp, mpf, workprec

from numpy_xlstm.generation import GenerationConfig, draw, probabilities

LOGITS = st.one_of(
    st.floats(-50, 50).map(lambda x: round(x, 6)),
    st.floats(-1e30, 1e30).map(lambda x: round(x, 6)),
    st.sampled_from([-1.0, 0.0, 1.0, 1e30, -1e30, 1e290, -1e290]),
)


def sampled(temperature: float = 1.0, **options: Any) -> GenerationConfig:
    return GenerationConfig(do_sample=True, temperature=temperature, **options)


def mask(histories: Any, size: int) -> Any:
    """Return which ids have occurred in each row."""
    seen = np.zeros((len(histories), size), bool)
    for row, ids in enumerate(histories):
        seen[row, np.asarray(ids, int)] = True
    return seen


SAMPLINGS = st.builds(
    sampled,
    temperature=st.sampled_from([0.0, 1e-300, 1e-3, 0.5, 1.0, 3.0, 1e30, 1e300]),
    top_k=st.none() | st.integers(1, 9),
    top_p=st.none() | st.floats(0.01, 1.0) | st.just(1.0),
    repetition_penalty=st.sampled_from([1.0, 1.3, 2.0, 1e10]),
)


def direct(logits: list[float], seen: set[int], sampling: GenerationConfig) -> list[float]:
    """Compute the definition number by number, with 53-bit logits and unlimited exponents."""
    with workprec(53):
        theta = mpf(sampling.repetition_penalty)
        y = [mpf(x) for x in logits]
        y = [(v / theta if v > 0 else v * theta) if k in seen else v for k, v in enumerate(y)]
        if sampling.temperature == 0:
            return [float(k == y.index(max(y))) for k in range(len(y))]
        powers = [(v - max(y)) / mpf(sampling.temperature) for v in y]
    with workprec(200):
        weights = [exp(power) for power in powers]
        kept = sorted(range(len(y)), key=lambda k: (-y[k], k))[: sampling.top_k]
        if sampling.top_p is not None and sampling.top_p < 1:
            kept = nucleus(kept, weights, sampling.top_p)
        total = sum(weights[k] for k in kept)
        return [float(weights[k] / total) if k in kept else 0.0 for k in range(len(y))]


def nucleus(ranked: list[int], weights: list[Any], top_p: float) -> list[int]:
    total = sum(weights[k] for k in ranked)
    for n in range(1, len(ranked) + 1):
        share = sum(weights[k] for k in ranked[:n]) / total
        assume(abs(share - top_p) > 1e-9)  # else rounding decides
        if share >= top_p:
            return ranked[:n]
    raise AssertionError("all of them have less than top_p")


@given(st.lists(LOGITS, min_size=1, max_size=8), st.sets(st.integers(0, 7)), SAMPLINGS)
def test_probabilities_are_as_defined(
    logits: list[float], seen: set[int], sampling: GenerationConfig
) -> None:
    seen = {k for k in seen if k < len(logits)}
    expected = direct(logits, seen, sampling)
    got = probabilities(np.array([logits]), mask([sorted(seen)], len(logits)), sampling)
    np.testing.assert_allclose(got[0], expected, rtol=1e-13, atol=1e-300)


def p(logits: list[float], history: Any = (), **options: Any) -> list[float]:
    seen = mask([history], len(logits))
    row = probabilities(np.array([logits], float), seen, sampled(**options))[0]
    return [float(value) for value in row.round(12)]


def test_each_option_by_hand() -> None:
    x = [float(np.log(w)) for w in (4, 3, 2, 1)]
    assert p(x) == [0.4, 0.3, 0.2, 0.1]
    assert p(x, temperature=0.5) == [round(w / 30, 12) for w in (16, 9, 4, 1)]
    assert p(x, temperature=0) == [1, 0, 0, 0]
    assert p(x, top_k=3) == [round(w / 9, 12) for w in (4, 3, 2, 0)]
    assert p(x, top_k=1) == p(x, top_p=1e-9) == [1, 0, 0, 0]
    assert p(x, top_p=0.65) == p(x, top_k=2) == [round(w / 7, 12) for w in (4, 3, 0, 0)]
    assert p(x, top_k=4, top_p=1.0) == p(x, top_k=99) == p(x)
    assert p(x, top_p=0.5) == [round(4 / 7, 12), round(3 / 7, 12), 0, 0]
    assert p(x, top_k=2, top_p=0.5) == [1, 0, 0, 0]  # a share of what top_k leaves
    assert p(x, top_p=0.85) == p(x, top_k=3)
    assert p(x, temperature=0.1, top_p=0.85) == [1, 0, 0, 0]  # the temperature comes first


def test_the_penalty_divides_positive_logits_and_multiplies_negative_ones() -> None:
    weights = np.exp([0.5, -2, 0, 2])
    expected = (weights / weights.sum()).round(12).tolist()
    assert p([1.0, -1.0, 0.0, 2.0], [0, 1, 2, 0], repetition_penalty=2.0) == expected


def test_of_equal_logits_the_lower_ids_are_kept() -> None:
    assert p([1, 2, 1, 1], top_k=2, temperature=1e300) == [0.5, 0.5, 0, 0]
    assert p([0, 0, 0, 0], top_k=3) == [round(1 / 3, 12)] * 3 + [0]
    assert p([0, 0, 0, 0], top_p=0.5) == [0.5, 0.5, 0, 0]
    assert p([0, 0, 0, 0], top_p=0.51) == [round(1 / 3, 12)] * 3 + [0]
    assert p([0, 5, 5], temperature=0) == [0, 1, 0]


def test_minus_infinity_is_never_drawn() -> None:
    assert p([0.0, -np.inf, 0.0]) == p([0.0, -np.inf, 0.0], top_k=3, top_p=1.0) == [0.5, 0, 0.5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_every_precision_gives_float64(dtype: Any) -> None:
    x = np.array([[1.0, 0.0, -1.0]], dtype)
    got = probabilities(x, mask([[]], 3), sampled(0.7, top_p=0.9, repetition_penalty=1.2))
    assert got.dtype == np.float64
    assert x.tolist() == [[1.0, 0.0, -1.0]]
    largest = np.array([[np.finfo(dtype).max, 0, np.finfo(dtype).min]], dtype)
    assert probabilities(largest, mask([[2]], 3), sampled(1e-320)).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    "sampling", [sampled(0.3), sampled(), sampled(4.0, top_k=4), sampled(top_p=0.8)]
)
def test_frequencies_are_the_probabilities(sampling: GenerationConfig) -> None:
    n, x = 20_000, np.array([[1.0, 2.0, 0.5, -1.0, 1.5]])
    expected = probabilities(x, mask([[]], 5), sampling)[0]
    drawn = draw(x.repeat(n, axis=0), mask([[]] * n, 5), sampling, np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=5)
    deviation = np.sqrt(n * expected * (1 - expected))
    assert (np.abs(counts - n * expected) < 5 * deviation + 1e-9).all()


class Always(np.random.Generator):
    """Gives one number only."""

    def __init__(self, number: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.number = number

    def random(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return np.full(size, self.number)


@given(st.lists(LOGITS | st.just(-np.inf), min_size=1, max_size=8), SAMPLINGS)
def test_a_token_without_probability_is_never_drawn(
    logits: list[float], sampling: GenerationConfig
) -> None:
    assume(max(logits) > -np.inf)
    x = np.array([[-np.inf, *logits, -np.inf]])
    none = np.zeros(x.shape, bool)
    chances = probabilities(x, none, sampling)[0]
    possible = np.flatnonzero(chances)
    lowest = draw(x, none, sampling, Always(0.0))[0]
    highest = draw(x, none, sampling, Always(float(np.nextafter(1, 0))))[0]
    assert lowest == possible[0]
    assert chances[highest] > 0
    assert chances[highest + 1 :].sum() < 1e-15


@pytest.mark.parametrize("sampling", [sampled(), sampled(0.0), sampled(top_k=2)])
def test_one_number_per_row(sampling: GenerationConfig) -> None:
    x = np.random.default_rng(1).standard_normal((5, 7))
    together, alone = np.random.default_rng(2), np.random.default_rng(2)
    none = np.zeros(x.shape, bool)
    drawn = draw(x, none, sampling, together)
    assert drawn.tolist() == [
        int(draw(x[row : row + 1], none[:1], sampling, alone)[0]) for row in range(5)
    ]
    assert together.random() == alone.random()


def test_without_do_sample_the_likeliest() -> None:
    x = np.array([[1.0, 3.0, 3.0], [4.0, 3.0, -1.0]])
    config = GenerationConfig(repetition_penalty=2.0)
    assert probabilities(x, mask([[1], []], 3), config).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert probabilities(x, mask([[], [0]], 3), config).tolist() == [[0, 1, 0], [0, 1, 0]]
