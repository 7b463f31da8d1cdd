"""Random arrays in the shapes of others, and numbers of examples that follow the profile."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild


def times(factor: float) -> settings:
    """Return settings with this many times the examples of the profile."""
    return settings(max_examples=max(1, round(factor * settings().max_examples)))


LARGEST = {"batch": 8, "heads": 8, "head": 8, "units": 64, "inputs": 8}
"""Sizes up to which property tests draw; the units of all heads together are up to 64, too."""


def mostly(small: int, name: str, least: int = 1) -> st.SearchStrategy[int]:
    """Draw sizes, of which about one in four may be up to the largest of that name."""
    few = st.integers(least, small)
    return st.one_of(few, few, few, st.integers(least, LARGEST[name]))


def draw_like(tree: Any, rng: np.random.Generator) -> Any:
    """Draw a tree of normal numbers in the shapes and dtypes of ``tree``."""
    values: Iterator[Array] = (
        rng.standard_normal(a.shape).astype(a.dtype) for _, a in leaves("", tree)
    )
    return rebuild(tree, values)


def random_state(empty: Any, rng: np.random.Generator) -> Any:
    """Draw a random state in the shapes of ``empty``; n > 0 in an sLSTM, as it always is."""

    def value(name: str, a: Array) -> Array:
        drawn = rng.standard_normal(a.shape).astype(a.dtype)
        positive = name.endswith("slstm.n") or (name == ".n" and hasattr(empty, "h"))
        return np.abs(drawn) + a.dtype.type(0.1) if positive else drawn

    return rebuild(empty, iter([value(name, a) for name, a in leaves("", empty)]))


def is_normal(deviation: float, array: Array) -> bool:
    """Return whether mean 0 and the deviation are met, each within five standard errors."""
    centred = abs(array.mean()) < 5 * deviation / np.sqrt(array.size)
    return bool(centred and abs(array.std() / deviation - 1) < 5 / np.sqrt(2 * array.size))


def is_uniform(limit: float, array: Array) -> bool:
    """Return whether numbers are in ±limit, with the mean and the spread of uniform ones."""
    spread = array.std() * np.sqrt(3) / limit
    centred = abs(array.mean()) < 5 * limit / np.sqrt(3 * array.size)
    inside = np.abs(array).max() <= limit
    return bool(inside and centred and abs(spread - 1) < 1.5 / np.sqrt(array.size))
