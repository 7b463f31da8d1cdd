import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.training import bigram_entropy, unigram_entropy


def bits(*shares: float) -> float:
    return -sum(p * math.log2(p) for p in shares)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("aaaa", 0), ("abcd", 2), ("aabc", 1.5), ("aaab", bits(3 / 4, 1 / 4)), ("😀😁😀😁", 1)],
)
def test_unigrams_by_hand(text: str, expected: float) -> None:
    assert unigram_entropy(text) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abcabcabc", 0.0),
        ("ab", 0.0),
        ("aabba", 1.0),  # aa ab bb ba
        ("aabaa", 3 / 4 * bits(2 / 3, 1 / 3)),  # after a (3 times): a, b, a; after b (once): a
        ("abac", 2 / 3),  # after a (twice): b, c; after b: a; the last c comes before nothing
        ("😀😁😀😁", 0.0),
    ],
)
def test_bigrams_by_hand(text: str, expected: float) -> None:
    assert bigram_entropy(text) == pytest.approx(expected, rel=1e-15)


@given(st.text("abc€", min_size=2, max_size=40))
def test_against_counting(text: str) -> None:
    n = len(text)
    assert unigram_entropy(text) == pytest.approx(
        bits(*(c / n for c in Counter(text).values())), abs=1e-14
    )
    pairs = Counter(itertools.pairwise(text))
    firsts = Counter(text[:-1])
    expected = sum(c * math.log2(firsts[a] / c) for (a, _), c in pairs.items()) / (n - 1)
    assert bigram_entropy(text) == pytest.approx(expected, abs=1e-14)
    assert math.copysign(1, bigram_entropy(text)) == 1  # never −0
