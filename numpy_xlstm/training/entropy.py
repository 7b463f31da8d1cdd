"""Empirical entropies of a text: what a model that counts characters or pairs would reach."""

import numpy as np

from numpy_xlstm.errors import TextError
from numpy_xlstm.generation.tokenizers import check_text, code_points


def unigram_entropy(text: str) -> float:
    r"""Entropy of a character, in bits.

    .. math:: H(X) = -\sum_a \frac{n_a}{n} \log_2 \frac{n_a}{n}

    No prediction that ignores the context does better on this text, even one fitted to it.

    Raises
    ------
    TextError
        If the text is empty, or no string.

    Examples
    --------
    >>> unigram_entropy("aabc")
    1.5
    """
    check_text(text)
    if not text:
        raise TextError("text: expected at least 1 character; got 0")
    _, n = np.unique(code_points(text), return_counts=True)
    p = n / len(text)
    return float(-(p * np.log2(p)).sum() + 0.0)  # [entropy.1]


def bigram_entropy(text: str) -> float:
    r"""Entropy of a character given the one before it, in bits.

    .. math::
        H(X_t \mid X_{t-1}) = -\sum_{a,b} \frac{n_{ab}}{n - 1} \log_2 \frac{n_{ab}}{n_{a·}}

    No prediction from the last character alone does better on this text, even one fitted to it.

    Raises
    ------
    TextError
        If the text has no pair of characters, or is no string.

    Examples
    --------
    >>> bigram_entropy("abab")  # the next character is certain
    0.0
    >>> bigram_entropy("aabba")  # after a: a or b; after b: b or a
    1.0
    """
    check_text(text)
    if len(text) < 2:
        raise TextError(f"text: expected at least 2 characters; got {len(text)}")
    points = code_points(text)
    pairs, n_ab = np.unique(np.stack((points[:-1], points[1:])), axis=1, return_counts=True)
    firsts, n_a = np.unique(points[:-1], return_counts=True)
    n_a_of_pair = n_a[np.searchsorted(firsts, pairs[0])]
    return float(-(n_ab * np.log2(n_ab / n_a_of_pair)).sum() / (len(text) - 1) + 0.0)  # [entropy.2]
