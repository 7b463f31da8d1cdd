import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.training import bigram_entropy, unigram_entropy


def bits(*shares: float) -> float:
    return -sum(p * math.log2(p) for p in shares)


def test_unigrams_by_hand() -> None:
    assert unigram_entropy("aaaa") == 0.0
    assert unigram_entropy("abcd") == 2.0
    assert unigram_entropy("aabc") == 1.5
    assert unigram_entropy("aaab") == pytest.approx(bits(3 / 4, 1 / 4), rel=1e-15)


def test_bigrams_by_hand() -> None:
    assert bigram_entropy("abcabcabc") == 0.0
    assert bigram_entropy("ab") == 0.0
    # aa ab bb ba: half a bit short of nothing known
    assert bigram_entropy("aabba") == 1.0
    # after a (3 times): a, b, a -> H(2/3, 1/3); after b (once): a -> 0
    assert bigram_entropy("aabaa") == pytest.approx(3 / 4 * bits(2 / 3, 1 / 3), rel=1e-15)
    # after a (twice): b, c -> 1 bit; after b: a -> 0; the last c comes before nothing
    assert bigram_entropy("abac") == pytest.approx(2 / 3, rel=1e-15)


def test_characters_beyond_the_first_plane() -> None:
    assert unigram_entropy("😀😁😀😁") == 1.0
    assert bigram_entropy("😀😁😀😁") == 0.0


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
