"""Normalisation of rows to mean 0 and variance 1, or to mean square 1.

Derived in ``docs/derivations/blocks.md``. A compiled kernel reads a row from memory once.
"""

from typing import Any

import numpy as np

from numpy_xlstm.kernels.functions import compiled, kernel, summation
from numpy_xlstm.kernels.parts import check_residual
from numpy_xlstm.numerics import Array, dot


def normalise(x: Array, eps: float, centred: bool) -> tuple[Array, Array]:
    """Return x̂ = (x − μ) r and r, over the last axis; μ = 0 unless ``centred``."""
    width = x.shape[-1]
    if compiled(x.dtype):
        normed, scale = np.empty(x.shape, x.dtype), np.empty((*x.shape[:-1], 1), x.dtype)
        number = x.dtype.type
        x, rows = np.ascontiguousarray(x).reshape(-1, width), normed.reshape(-1, width)
        loop(x, rows, scale.reshape(-1), centred, number(width), number(width * eps))
        return normed, scale
    if centred:
        x = x - x.mean(axis=-1, keepdims=True)  # [norm.1]
    scale = np.sqrt(width / (dot(x, x) + width * eps))  # [norm.2]
    return x * scale, scale  # [norm.3]


def normalise_backward(dy: Array, normed: Array, scale: Array, centred: bool) -> Array:
    """Return the gradient of x from that of x̂  [norm.6]."""
    width = dy.shape[-1]
    check_residual("x̂", normed, dy.shape, dy.dtype)
    check_residual("r", scale, (*dy.shape[:-1], 1), dy.dtype)
    if compiled(dy.dtype):
        shape, number = dy.shape, dy.dtype.type
        dy, normed = (np.ascontiguousarray(a).reshape(-1, width) for a in (dy, normed))
        dx = np.empty_like(dy)
        loop_backward(dy, normed, dx, scale.reshape(-1), centred, number(width))
        return dx.reshape(shape)
    dx = dy - normed * (dot(dy, normed) / width)
    dx = dx - dy.mean(axis=-1, keepdims=True) if centred else dx
    scaled: Array = dx * scale
    return scaled


@kernel
def loop(x: Any, normed: Any, scale: Any, centred: Any, width: Any, eps: Any) -> None:
    """Normalise each row; ``eps`` is ε times the width."""
    for n in range(len(x)):
        mean = total(x[n]) / width if centred else 0 * width
        for j in range(x.shape[1]):
            normed[n, j] = x[n, j] - mean  # [norm.1]
        r = np.sqrt(width / (total_product(normed[n], normed[n]) + eps))  # [norm.2]
        scale[n] = r
        for j in range(x.shape[1]):
            normed[n, j] *= r  # [norm.3]


@kernel
def loop_backward(dy: Any, normed: Any, dx: Any, scale: Any, centred: Any, width: Any) -> None:
    """Compute the gradient of each row  [norm.6]."""
    for n in range(len(dy)):
        along = total_product(dy[n], normed[n]) / width
        mean = total(dy[n]) / width if centred else 0 * width
        for j in range(dy.shape[1]):
            dx[n, j] = (dy[n, j] - normed[n, j] * along - mean) * scale[n]


@summation
def total(a: Any) -> Any:
    """Return Σ a."""
    total = a.dtype.type(0)
    for j in range(a.size):
        total += a[j]
    return total


@summation
def total_product(a: Any, b: Any) -> Any:
    """Return Σ a b."""
    total = a.dtype.type(0)
    for j in range(a.size):
        total += a[j] * b[j]
    return total
