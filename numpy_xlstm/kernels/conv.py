"""Causal depthwise convolution over time, derived in ``docs/derivations/blocks.md``."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from numpy_xlstm.kernels.functions import compiled, kernel
from numpy_xlstm.kernels.parts import check_residual, for_loops
from numpy_xlstm.numerics import Array


def correlate(padded: Array, taps: Array) -> Array:
    """Return Σ_j taps[j] · padded[:, t + j] for every t at which all terms exist."""
    if not compiled(padded.dtype):
        y: Array = np.einsum("btdk,kd->btd", windows(padded, len(taps)), taps)
        return y
    B, length, D = padded.shape
    y = np.zeros((B, max(0, length - len(taps) + 1), D), padded.dtype)
    loop(for_loops(padded), for_loops(taps), y)
    return y


def correlate_backward(dy: Array, padded: Array, taps: Array) -> tuple[Array, Array]:
    """Return the gradients of ``padded`` and of the taps."""
    (B, T, D), K = dy.shape, len(taps)
    check_residual("padded x", padded, (B, T + K - 1, D), dy.dtype)
    check_residual("taps", taps, (K, D), dy.dtype)
    if not compiled(dy.dtype):
        around = np.pad(dy, ((0, 0), (K - 1, K - 1), (0, 0)))
        dtaps = np.einsum("btd,btdk->kd", dy, windows(padded, K))  # [conv.4]
        return correlate(around, taps[::-1]), dtaps  # [conv.3]
    dpadded, dtaps = np.zeros(padded.shape, dy.dtype), np.zeros(taps.shape, dy.dtype)
    loop_backward(for_loops(dy), for_loops(padded), for_loops(taps), dpadded, dtaps)
    return dpadded, dtaps


@kernel
def loop(padded: Any, taps: Any, y: Any) -> None:
    """Add the terms of each step to y."""
    for b in range(y.shape[0]):
        for t in range(y.shape[1]):
            for j in range(len(taps)):
                for d in range(y.shape[2]):
                    y[b, t, d] += taps[j, d] * padded[b, t + j, d]  # [conv.1]


@kernel
def loop_backward(dy: Any, padded: Any, taps: Any, dpadded: Any, dtaps: Any) -> None:
    """Add the gradients of each term."""
    for b in range(dy.shape[0]):
        for t in range(dy.shape[1]):
            for j in range(len(taps)):
                for d in range(dy.shape[2]):
                    dpadded[b, t + j, d] += taps[j, d] * dy[b, t, d]  # [conv.3]
                    dtaps[j, d] += padded[b, t + j, d] * dy[b, t, d]  # [conv.4]


def windows(padded: Array, K: int) -> Array:
    """Return a view (B, T, D, K) of (B, T + K − 1, D): the K inputs of each of T steps."""
    B, length, D = padded.shape
    if length < K:
        return np.empty((B, 0, D, K), padded.dtype)
    return sliding_window_view(padded, K, axis=1)
