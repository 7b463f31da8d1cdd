"""x Wᵀ for any number of rows, in the way that BLAS is fastest with.

All ways are the same sums of products. With many rows any will do; with few, as in generation,
OpenBLAS takes up to five times as long in one as in another.
"""

import numpy as np

from numpy_xlstm.numerics import Array, dot

LARGE = 2**17
"""From so many entries on, a matrix comes from memory, and not from the processor's own cache."""

THREADED = 460_800
"""From so many on, OpenBLAS takes several cores for the product with one row."""

LONG = 256
"""From so many entries on, a row is worth a call of BLAS for itself."""

BLOCK = 32
"""So many outputs at once, of few rows, are multiplied without being packed before."""


def times_transposed(x: Array, weight: Array) -> Array:
    """X Wᵀ for x (rows, D) and W (O, D), a contiguous array."""
    rows, (outputs, D), size = len(x), weight.shape, weight.size
    if weight.flags.c_contiguous:
        if rows <= 2 and D >= LONG and size >= LARGE and (rows == 2 or size < THREADED):
            return by_dots(x, weight)
        if 1 < rows <= 12 and size < LARGE and outputs % BLOCK == 0:
            return by_blocks(x, weight)
    if 1 < rows <= 128:
        return np.ascontiguousarray((weight @ x.T).T)
    product: Array = x @ weight.T
    return product


def by_dots(x: Array, weight: Array) -> Array:
    """One inner product after the other: W is read once, and as fast as memory gives it."""
    return np.ascontiguousarray(dot(weight[:, None], x)[..., 0].T)


def by_blocks(x: Array, weight: Array) -> Array:
    """A few outputs at a time."""
    outputs, D = weight.shape
    y = np.empty((len(x), outputs // BLOCK, BLOCK), np.result_type(x, weight))
    blocks = weight.reshape(-1, BLOCK, D)
    np.matmul(x, blocks.swapaxes(1, 2), out=y.swapaxes(0, 1))
    return y.reshape(len(x), outputs)
