"""Random arrays in the shapes of others, and numbers of examples that follow the profile."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import settings

from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild


def times(factor: float) -> settings:
    """Return settings with this many times the examples of the profile."""
    return settings(max_examples=max(1, round(factor * settings().max_examples)))


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
