"""The time loop that LSTM and sLSTM share: matrix products between pointwise steps.

A recurrence alternates a product with the recurrent matrix and a pointwise map::

    g_t           = W x_t + b + R h_{t−1}                     [rec.1]
    h_t, memory_t = pointwise(g_t, memory_{t−1})

What does not depend on h_{t−1} is done for a block of steps at once, outside of the loop.
Arrays have the batch last, h (NH, DH, B), so that R h is one product of matrices per head, with R
(NH, 4·DH, DH). A step has the gates first, g (4, NH, DH, B), so that each gate is contiguous.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from numpy_xlstm.numerics import Array

Memory = tuple[Array, ...] | Array
"""What a cell carries besides h: (c,) for LSTM, (c, n, m) for sLSTM; or these, stacked."""

Record = TypeVar("Record", bound=tuple[Array, ...])
"""A named tuple of arrays that a pointwise map fills at a step."""

BLOCK = 25
"""Steps per block: few, for a block to stay in the processor's cache; odd, to spread there."""


class Pointwise(Protocol[Record]):
    """What happens between two matrix products: a pair of pure maps, and no parameters.

    Results are written to arrays that the caller has made. The backward may carry the cotangent of
    the memory in coordinates of its own; ``enter_backward`` and ``leave_backward`` translate.
    """

    record_size: int
    """How many arrays of the shape of h a record takes for a step."""

    def record(self, kept: Array) -> Record:
        """Divide ``kept`` (record_size, NH, DH, B) into the arrays of a record, as views."""
        ...

    def forward(self, g: Array, before: Memory, h: Array, after: Memory, record: Record) -> None:
        """Map pre-activations g (4, NH, DH, B) and the memory before to h and the memory after.

        ``g`` may be overwritten.
        """
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

    before: Memory
    after: Memory
    record: Record


class ScanCache(NamedTuple):
    """What the backward of a scan needs, for all steps."""

    hs: Array
    """h_0 … h_T, shape (T+1, B, NH, DH): the outputs are here in the order that they leave in."""
    kept: Array
    """The memory at each step, and what the pointwise map has recorded, (T+1, …, NH, DH, B)."""
    memory_size: int
    """How many of these are the memory."""
    R: Array
    """The recurrent matrix, (NH, 4·DH, DH), gate by gate within a head."""
    padding: Array | None
    """True at steps that are not there, (T, B); None if there are none."""

    def memory(self, t: int) -> Array:
        """The memory before step t, stacked, as a view."""
        memory: Array = self.kept[t, : self.memory_size]
        return memory


Source = Callable[[slice], Array]
"""Gives W x + b of a block of steps, (4, NH, DH, steps, B); the scan does not change it."""

Sink = Callable[[slice, Array], None]
"""Takes the gradient of what the source has given, block by block from the last."""


def batch_last(h: Array) -> Array:
    """View of (…, B, NH, DH) as (…, NH, DH, B)."""
    return h.swapaxes(-3, -2).swapaxes(-2, -1)


def batch_first(h: Array) -> Array:
    """View of (…, NH, DH, B) as (…, B, NH, DH): the inverse of :func:`batch_last`."""
    return h.swapaxes(-2, -1).swapaxes(-3, -2)


def step(cache: ScanCache, t: int, pointwise: Pointwise[Any]) -> Step[Any]:
    """Step t of a scan, as views."""
    record = pointwise.record(cache.kept[t, cache.memory_size :])
    return Step(cache.memory(t), cache.memory(t + 1), record)


def blocks(T: int) -> list[slice]:
    """Cut T steps into blocks that are short enough for the processor's cache."""
    return [slice(start, min(start + BLOCK, T)) for start in range(0, T, BLOCK)]


def scan(
    source: Source,
    T: int,
    R: Array,
    h: Array,
    memory: Memory,
    pointwise: Pointwise[Any],
    padding: Array | None = None,
) -> ScanCache:
    """Run the recurrence over T steps; the outputs are ``hs[1:]``.

    A step that is not there leaves h and the memory as they are.
    """
    NH, DH, B = h.shape
    size = len(memory) + pointwise.record_size
    hs, kept = np.empty((T + 1, B, NH, DH), h.dtype), np.empty((T + 1, size, NH, DH, B), h.dtype)
    batch_last(hs)[0], kept[0, : len(memory)] = h, memory
    cache = ScanCache(hs, kept, len(memory), R, padding)
    for block in blocks(T):
        pre = source(block)
        for t in range(block.start, block.stop):
            g = pre[..., t - block.start, :] + recur(batch_last(hs[t]), R)
            before, after, now = step(cache, t, pointwise)
            pointwise.forward(g, before, batch_last(hs[t + 1]), after, now)
            if padding is not None:
                hs[t + 1, padding[t]] = hs[t, padding[t]]
                cache.memory(t + 1)[..., padding[t]] = cache.memory(t)[..., padding[t]]
    return cache


def scan_backward(
    dhs: Array, dh: Array, dmemory: Memory, cache: ScanCache, pointwise: Pointwise[Any], sink: Sink
) -> tuple[Array, Memory, Array]:
    """Run back through a scan.

    ``dhs`` (T, B, NH, DH) are the cotangents of the outputs, 0 at padding, ``dh`` and ``dmemory``
    those of the final state. The gradient of the source goes to the sink; those of ``h``,
    ``memory`` and ``R`` are returned.
    """
    T, B, NH, DH = dhs.shape
    dR = np.zeros_like(cache.R)
    dg = np.empty((4, NH, DH, B), dhs.dtype)
    dmemory = pointwise.enter_backward(dmemory, cache.memory(T))
    for block in reversed(blocks(T)):
        dpre = np.empty((4, NH, DH, block.stop - block.start, B), dhs.dtype)
        for t in reversed(range(block.start, block.stop)):
            dh, dmemory = step_backward(dh + batch_last(dhs[t]), dmemory, cache, t, pointwise, dg)
            dpre[..., t - block.start, :] = dg
        dR += recurrent_gradient(dpre, cache.hs[block])
        sink(block, dpre)
    return dh, pointwise.leave_backward(dmemory, cache.memory(0)), dR


def step_backward(
    dh: Array, dmemory: Memory, cache: ScanCache, t: int, pointwise: Pointwise[Any], dg: Array
) -> tuple[Array, Memory]:
    """Step t back: writes ``dg``, returns the gradients of h₋ and of the memory before."""
    if cache.padding is None:
        dmemory = pointwise.backward(dh, dmemory, step(cache, t, pointwise), dg)
        return recur_backward(dg, cache.R), dmemory
    padded = cache.padding[t]
    with np.errstate(divide="ignore", invalid="ignore"):  # of padding, whose results are not used
        dbefore = pointwise.backward(dh, dmemory, step(cache, t, pointwise), dg)
    dg[..., padded] = 0
    dmemory = tuple(np.where(padded, *d) for d in zip(dmemory, dbefore, strict=True))
    return np.where(padded, dh, recur_backward(dg, cache.R)), dmemory


def recur(h: Array, R: Array) -> Array:
    """R h, head by head: (4, NH, DH, B)."""
    NH, DH, B = h.shape
    return (R @ h).reshape(NH, 4, DH, B).swapaxes(0, 1)


def recur_backward(dg: Array, R: Array) -> Array:
    """Gradient of h: Rᵀ δg  [rec.2]."""
    _, NH, DH, B = dg.shape
    dh: Array = R.swapaxes(1, 2) @ dg.swapaxes(0, 1).reshape(NH, 4 * DH, B)
    return dh


def recurrent_gradient(dg: Array, h_prev: Array) -> Array:
    """Gradient of R: the sum of δg h₋ᵀ, with δg (4, NH, DH, …, B) and h₋ (…, B, NH, DH)."""
    _, NH, DH = dg.shape[:3]
    dR: Array = np.empty((NH, 4, DH, DH), dg.dtype)
    by_head = h_prev.reshape(-1, NH, DH).swapaxes(0, 1)
    np.matmul(dg.reshape(4, NH, DH, -1), by_head, out=dR.swapaxes(0, 1))  # [rec.5]
    return dR.reshape(NH, 4 * DH, DH)
