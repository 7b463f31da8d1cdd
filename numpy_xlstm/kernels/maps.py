"""Maps within blocks: norms, SiLU and causal convolution.

Derived in ``docs/derivations/blocks.md``. A compiled kernel reads a row from memory once.
"""

from typing import Any

import numpy as np

from numpy_xlstm.kernels.common import for_loops
from numpy_xlstm.kernels.functions import compiled, exp, kernel, maximum, pointwise, summation
from numpy_xlstm.numerics import Array, dot, lowest


def normalise(x: Array, eps: float, centred: bool) -> tuple[Array, Array]:
    """Return x̂ = (x − μ) r and r, over the last axis; μ = 0 unless ``centred``: a norm."""
    width = x.shape[-1]
    if compiled(x.dtype):
        normed, scale = np.empty(x.shape, x.dtype), np.empty((*x.shape[:-1], 1), x.dtype)
        number = x.dtype.type
        x, rows = np.ascontiguousarray(x).reshape(-1, width), normed.reshape(-1, width)
        norm_rows(x, rows, scale.reshape(-1), centred, number(width), number(width * eps))
        return normed, scale
    if centred:
        x = x - x.mean(axis=-1, keepdims=True)  # [norm.1]
    scale = np.sqrt(width / (dot(x, x) + width * eps))  # [norm.2]
    return x * scale, scale  # [norm.3]


def normalise_backward(dy: Array, normed: Array, scale: Array, centred: bool) -> Array:
    """Return the gradient of x from that of x̂  [norm.6]."""
    width = dy.shape[-1]
    if compiled(dy.dtype):
        shape, number = dy.shape, dy.dtype.type
        dy, normed = (np.ascontiguousarray(a).reshape(-1, width) for a in (dy, normed))
        dx = np.empty_like(dy)
        norm_rows_backward(dy, normed, dx, scale.reshape(-1), centred, number(width))
        return dx.reshape(shape)
    dx = dy - normed * (dot(dy, normed) / width)
    dx = dx - dy.mean(axis=-1, keepdims=True) if centred else dx
    scaled: Array = dx * scale
    return scaled


@kernel
def norm_rows(x: Any, normed: Any, scale: Any, centred: Any, width: Any, eps: Any) -> None:
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
def norm_rows_backward(dy: Any, normed: Any, dx: Any, scale: Any, centred: Any, width: Any) -> None:
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


@pointwise
def value_and_gate(x: Any, least: Any) -> Any:
    """Return x σ(x) and σ(x)."""
    # Below ``least``, e^−x would overflow. The product also uses ``near``, because −1e38 times
    # σ(least) would not be near 0.
    near = maximum(x, least)
    s = 1 / (1 + exp(-near))
    return near * s, s  # [silu.1]


@pointwise
def silu_slope(y: Any, s: Any) -> Any:
    """Return the derivative of x σ(x) with respect to x."""
    return s + y * (1 - s)  # [silu.2]


@kernel
def gate(x: Any, least: Any, y: Any, s: Any) -> None:
    """Write x σ(x) and σ(x)."""
    for i in range(x.size):
        y[i], s[i] = value_and_gate(x[i], least)


@kernel
def gate_backward(dy: Any, y: Any, s: Any, dx: Any) -> None:
    """Write the gradient of x."""
    for i in range(dy.size):
        dx[i] = dy[i] * silu_slope(y[i], s[i])


def silu(x: Array) -> tuple[Array, Any]:
    """Return x σ(x), also known as swish, and residuals."""
    least = lowest(x.dtype)
    if compiled(x.dtype):
        y, s = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
        gate(flat(x), least, flat(y), flat(s))
    else:
        y, s = value_and_gate(x, least)
    return y, (y, s)


def silu_backward(dy: Array, cache: Any) -> Array:
    """Return the gradient of x."""
    y, s = cache
    if not compiled(dy.dtype):
        return dy * silu_slope(y, s)  # type: ignore[no-any-return]
    dx = np.empty(dy.shape, dy.dtype)
    gate_backward(flat(dy), flat(y), flat(s), flat(dx))
    return dx


def flat(array: Array) -> Array:
    """Return a one-dimensional view of the array, or a copy if it is not in C-order."""
    return np.ascontiguousarray(array).reshape(-1)


def correlate(padded: Array, taps: Array) -> Array:
    """Return Σ_j taps[j] · padded[:, t + j] for every t at which all terms exist."""
    B, length, D = padded.shape
    y = np.zeros((B, max(0, length - len(taps) + 1), D), padded.dtype)
    if compiled(padded.dtype):
        convolve(for_loops(padded), for_loops(taps), y)
        return y
    for j, tap in enumerate(taps):
        y += tap * padded[:, j : j + y.shape[1]]
    return y


def correlate_backward(dy: Array, padded: Array, taps: Array) -> tuple[Array, Array]:
    """Return the gradients of ``padded`` and of the taps."""
    dpadded, dtaps = np.zeros(padded.shape, dy.dtype), np.zeros(taps.shape, dy.dtype)
    if compiled(dy.dtype):
        convolve_backward(for_loops(dy), for_loops(padded), for_loops(taps), dpadded, dtaps)
        return dpadded, dtaps
    for j, tap in enumerate(taps):
        steps = slice(j, j + dy.shape[1])
        dpadded[:, steps] += tap * dy  # [conv.3]
        dtaps[j] = np.einsum("btd,btd->d", dy, padded[:, steps])  # [conv.4]
    return dpadded, dtaps


@kernel
def convolve(padded: Any, taps: Any, y: Any) -> None:
    """Add the terms of each step to y."""
    for b in range(y.shape[0]):
        for t in range(y.shape[1]):
            for j in range(len(taps)):
                for d in range(y.shape[2]):
                    y[b, t, d] += taps[j, d] * padded[b, t + j, d]  # [conv.1]


@kernel
def convolve_backward(dy: Any, padded: Any, taps: Any, dpadded: Any, dtaps: Any) -> None:
    """Add the gradients of each term."""
    for b in range(dy.shape[0]):
        for t in range(dy.shape[1]):
            for j in range(len(taps)):
                for d in range(dy.shape[2]):
                    dpadded[b, t + j, d] += taps[j, d] * dy[b, t, d]  # [conv.3]
                    dtaps[j, d] += padded[b, t + j, d] * dy[b, t, d]  # [conv.4]
