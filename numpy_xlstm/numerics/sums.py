"""Sums over the last axis, which stays as an axis of 1."""

import numpy as np

from numpy_xlstm.numerics.arrays import Array


def mean(x: Array) -> Array:
    """Mean; NumPy's sum by pairs, since with a large mean every digit of it counts."""
    mean: Array = np.add.reduce(x, axis=-1, keepdims=True) / x.shape[-1]
    return mean


def dot(a: Array, b: Array) -> Array:
    """Sum of products, by BLAS where it can; nothing is conjugated."""
    if a.dtype.kind == "c":
        product: Array = np.einsum("...i,...i->...", a, b)
    else:
        product = np.vecdot(a, b)
    return product[..., None]
