"""Products of rows x (..., D) with a block-diagonal matrix (NH, O/NH, D/NH).

Narrow blocks are joined into wider ones, with zeros off the diagonal, because many small products
are slow: for the same x, blocks of width 4 take four times as long as blocks of width 16.
"""

from math import gcd

import numpy as np

from numpy_xlstm.numerics import Array

FAST_WIDTH = 16
"""Largest width of the joined blocks."""


def headwise(x: Array, weight: Array) -> Array:
    """Multiply each head by its block, from (..., D) to (..., O)  [headwise.1]."""
    W, rows = join_blocks(weight), x.reshape(-1, x.shape[-1])
    y = np.empty((len(rows), weight.shape[0] * weight.shape[1]), x.dtype)
    np.matmul(split_heads(rows, len(W)), W.swapaxes(1, 2).copy(), out=split_heads(y, len(W)))
    return y.reshape(*x.shape[:-1], y.shape[1])


def headwise_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    """Return the gradients of x  [headwise.4] and of the weight  [headwise.2]."""
    W, rows = join_blocks(weight), x.reshape(-1, x.shape[-1])
    dy_heads, dx = split_heads(dy.reshape(-1, dy.shape[-1]), len(W)), np.empty(rows.shape, x.dtype)
    dW = dy_heads.swapaxes(1, 2) @ split_heads(rows, len(W))
    np.matmul(dy_heads, W, out=split_heads(dx, len(W)))
    return dx.reshape(x.shape), separate_blocks(dW, weight.shape)


def join_blocks(weight: Array) -> Array:
    """Join neighbouring blocks into wider ones, with zeros off the diagonal."""
    NH, rows, columns = weight.shape
    count = gcd(NH, max(1, FAST_WIDTH // max(rows, columns)))
    if count == 1:
        return weight
    joined = np.zeros((NH // count, count, rows, count, columns), weight.dtype)
    each = np.arange(count)
    joined[:, each, :, each] = weight.reshape(-1, count, rows, columns).swapaxes(0, 1)
    return joined.reshape(NH // count, count * rows, count * columns)


def separate_blocks(joined: Array, shape: tuple[int, ...]) -> Array:
    """Return the blocks on the diagonals; the inverse of :func:`join_blocks`."""
    NH, rows, columns = shape
    count, each = NH // len(joined), np.arange(NH // len(joined))
    blocks = joined.reshape(-1, count, rows, count, columns)[:, each, :, each]
    return blocks.swapaxes(0, 1).reshape(shape)


def split_heads(x: Array, NH: int) -> Array:
    """Return a view of x (..., B, NH·n) as (..., NH, B, n)."""
    return x.reshape(*x.shape[:-1], NH, x.shape[-1] // NH).swapaxes(-3, -2)


def join_heads(x: Array) -> Array:
    """Return x (..., NH, B, n) as (..., B, NH·n); the inverse of :func:`split_heads`."""
    *lead, NH, B, n = x.shape
    return x.swapaxes(-3, -2).reshape(*lead, B, NH * n)
