"""The time loop that LSTM and sLSTM share: matrix products between pointwise steps.

A recurrence alternates a product with the recurrent matrix and a pointwise map::

    g_t           = pre_t + R h_{t−1}                         [rec.1]
    h_t, memory_t = pointwise(g_t, memory_{t−1})

Everything that does not depend on h_{t−1} is done for all steps at once, outside of the loop.
Arrays are time-major and head-major: pre (T, B, NH, 4, DH), h (B, NH, DH), R (NH, 4·DH, DH).
"""

from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from numpy_xlstm.numerics import Array

Memory = tuple[Array, ...]
"""What a cell carries besides h: (c,) for LSTM, (c, n, m) for sLSTM."""

Record = TypeVar("Record", bound=tuple[Array, ...])
"""A named tuple of arrays that a pointwise map fills: those of one step, or stacked over steps."""


class Pointwise(Protocol[Record]):
    """What happens between two matrix products: a pair of pure maps, and no parameters.

    Results are written to arrays that the caller has made. The backward may carry the cotangent of
    the memory in coordinates of its own; ``enter_backward`` and ``leave_backward`` translate.
    """

    def record(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Record:
        """Make the arrays for what the backward needs, of the shape (…, B, NH, DH) of h.

        They are parts of one block: the system hands out a large block many times faster.
        """
        ...

    def forward(self, g: Array, before: Memory, h: Array, after: Memory, record: Record) -> None:
        """Map pre-activations g (…, 4, DH) and the memory before to h and the memory after."""
        ...

    def backward(self, dh: Array, dmemory: Memory, at: "Step[Record]", dg: Array) -> Memory:
        """Write the gradient of g to ``dg`` and return that of the memory before."""
        ...

    def enter_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Translate the cotangent of the final memory to the coordinates of ``backward``."""
        ...

    def leave_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Translate back, at the initial memory."""
        ...


class Step(NamedTuple, Generic[Record]):
    """One step, as its backward sees it."""

    g: Array
    """Pre-activations, (…, 4, DH)."""
    before: Memory
    after: Memory
    record: Record


class ScanCache(NamedTuple):
    """What the backward of a scan needs, for all steps."""

    pre: Array
    """Pre-activations, with the recurrent part, (T, B, NH, 4, DH)."""

    hs: Array
    """h_0 … h_T, shape (T+1, B, NH, DH)."""
    memories: Memory
    """The memory at each step, likewise."""
    record: tuple[Array, ...]
    """What the pointwise map has recorded, (T, …)."""
    R: Array


def at(arrays: Record, t: int) -> Record:
    """One step of stacked arrays, as views."""
    views = (array[t] for array in arrays)
    return type(arrays)(*views) if hasattr(arrays, "_fields") else type(arrays)(views)


def step(cache: ScanCache, t: int) -> Step[Any]:
    """Step t of a scan, as views."""
    memories = cache.memories
    return Step(cache.pre[t], at(memories, t), at(memories, t + 1), at(cache.record, t))


def scan(pre: Array, R: Array, h: Array, memory: Memory, pointwise: Pointwise[Any]) -> ScanCache:
    """Run the recurrence over ``pre``, which is overwritten; the outputs are ``hs[1:]``."""
    T = len(pre)
    states = np.empty((1 + len(memory), T + 1, *h.shape), h.dtype)  # one block: see `record`
    states[:, 0] = h, *memory
    record = pointwise.record((T, *h.shape), h.dtype)
    cache = ScanCache(pre, states[0], tuple(states[1:]), record, R)
    for t, g in enumerate(pre):
        g += per_head(cache.hs[t], R.swapaxes(1, 2)).reshape(g.shape)  # [rec.1]
        _, before, after, now = step(cache, t)
        pointwise.forward(g, before, cache.hs[t + 1], after, now)
    return cache


def scan_backward(
    dhs: Array, dh: Array, dmemory: Memory, cache: ScanCache, pointwise: Pointwise[Any]
) -> tuple[Array, Array, Memory, Array]:
    """Run back through a scan.

    ``dhs`` (T, B, NH, DH) are the cotangents of the outputs, ``dh`` and ``dmemory`` those of the
    final state. Returns the gradients of ``pre``, ``h``, ``memory`` and ``R``.
    """
    T, B, NH, DH = dhs.shape
    dpre = np.empty((T, B, NH, 4, DH), dhs.dtype)
    dmemory = pointwise.enter_backward(dmemory, at(cache.memories, T))
    for t in reversed(range(T)):
        dmemory = pointwise.backward(dhs[t] + dh, dmemory, step(cache, t), dpre[t])
        dh = per_head(dpre[t].reshape(B, NH, 4 * DH), cache.R)  # [rec.2]
    dmemory = pointwise.leave_backward(dmemory, at(cache.memories, 0))
    dg = dpre.reshape(T * B, NH, 4 * DH).transpose(1, 2, 0)
    dR = dg @ cache.hs[:-1].reshape(T * B, NH, DH).swapaxes(0, 1)  # [rec.5]
    return dpre, dh, dmemory, dR


def per_head(x: Array, matrices: Array) -> Array:
    """Row vectors x (B, NH, K) times one matrix (K, N) per head: (B, NH, N)."""
    product: Array = np.matmul(x.swapaxes(0, 1), matrices)
    return product.swapaxes(0, 1)
