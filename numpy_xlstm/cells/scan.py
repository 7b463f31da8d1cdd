"""The time loop that LSTM and sLSTM share: matrix products between pointwise steps.

A recurrence alternates a product with the recurrent matrix and a pointwise map::

    g_t           = pre_t + R h_{t−1}                         [rec.1]
    h_t, memory_t = pointwise(g_t, memory_{t−1})

Everything that does not depend on h_{t−1} is done for all steps at once, outside of the loop.
Arrays are time-major and head-major: pre (T, B, NH, 4, DH), h (B, NH, DH), R (NH, 4·DH, DH).
"""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from numpy_xlstm.numerics import Array

StepCache = TypeVar("StepCache")
Memory = tuple[Array, ...]
"""What a cell carries besides h: (c,) for LSTM, (c, n, m) for sLSTM."""


class Pointwise(Protocol[StepCache]):
    """What happens between two matrix products: a pure pair, and no parameters.

    The backward may carry the cotangent of the memory in coordinates of its own;
    ``enter_backward`` and ``leave_backward`` translate.
    """

    def forward(self, g: Array, memory: Memory) -> tuple[Array, Memory, StepCache]:
        """Map pre-activations g (..., 4, DH) and the memory to h (..., DH) and the new memory."""
        ...

    def backward(self, dh: Array, dmemory: Memory, cache: StepCache, dg: Array) -> Memory:
        """Write the gradient of g into ``dg`` and return that of the previous memory."""
        ...

    def enter_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Translate the cotangent of the final memory to the coordinates of ``backward``."""
        ...

    def leave_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Translate back, at the initial memory."""
        ...


class ScanCache(NamedTuple, Generic[StepCache]):
    """What the backward of a scan needs."""

    hs: Array
    """h_0 … h_T, shape (T+1, B, NH, DH)."""
    steps: Sequence[StepCache]
    """One cache per step."""
    R: Array
    first: Memory
    """The memory before the first step."""
    last: Memory
    """The memory after the last step."""


def scan(
    pre: Array, R: Array, h: Array, memory: Memory, pointwise: Pointwise[StepCache]
) -> ScanCache[StepCache]:
    """Run the recurrence over ``pre``; the outputs are ``hs[1:]`` of what is returned."""
    hs = np.empty((len(pre) + 1, *h.shape), pre.dtype)
    hs[0] = h
    first, steps = memory, []
    for t, pre_t in enumerate(pre):
        g = pre_t + per_head(hs[t], R.swapaxes(1, 2)).reshape(pre_t.shape)  # [rec.1]
        hs[t + 1], memory, cache = pointwise.forward(g, memory)
        steps.append(cache)
    return ScanCache(hs, steps, R, first, memory)


def scan_backward(
    dhs: Array, dh: Array, dmemory: Memory, cache: ScanCache[Any], pointwise: Pointwise[Any]
) -> tuple[Array, Array, Memory, Array]:
    """Run back through a scan.

    ``dhs`` (T, B, NH, DH) are the cotangents of the outputs, ``dh`` and ``dmemory`` those of the
    final state. Returns the gradients of ``pre``, ``h``, ``memory`` and ``R``.
    """
    T, B, NH, DH = dhs.shape
    dpre = np.empty((T, B, NH, 4, DH), dhs.dtype)
    dmemory = pointwise.enter_backward(dmemory, cache.last)
    for t in reversed(range(T)):
        dmemory = pointwise.backward(dhs[t] + dh, dmemory, cache.steps[t], dpre[t])
        dh = per_head(dpre[t].reshape(B, NH, 4 * DH), cache.R)  # [rec.2]
    dmemory = pointwise.leave_backward(dmemory, cache.first)
    dg = dpre.reshape(T * B, NH, 4 * DH).transpose(1, 2, 0)
    dR = dg @ cache.hs[:-1].reshape(T * B, NH, DH).swapaxes(0, 1)  # [rec.5]
    return dpre, dh, dmemory, dR


def per_head(x: Array, matrices: Array) -> Array:
    """Row vectors x (B, NH, K) times one matrix (K, N) per head: (B, NH, N)."""
    product: Array = np.matmul(x.swapaxes(0, 1), matrices)
    return product.swapaxes(0, 1)
