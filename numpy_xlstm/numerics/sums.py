"""Sums over the last axis by BLAS, which is several times faster than NumPy's own reduction."""

from functools import cache
from typing import Any

import numpy as np

from numpy_xlstm.numerics.arrays import Array


def mean(x: Array) -> Array:
    """Mean over the last axis, which stays as an axis of 1."""
    total: Array = x @ _ones(x.shape[-1], x.dtype)
    total /= x.shape[-1]
    return total


def dot(a: Array, b: Array) -> Array:
    """Sum of products over the last axis, which stays as an axis of 1; nothing is conjugated."""
    if a.dtype.kind == "c":
        product: Array = np.einsum("...i,...i->...", a, b)
    else:
        product = np.vecdot(a, b)
    return product[..., None]


@cache
def _ones(width: int, dtype: np.dtype[Any]) -> Array:
    """A column of ones."""
    column = np.ones((width, 1), dtype)
    column.flags.writeable = False
    return column
