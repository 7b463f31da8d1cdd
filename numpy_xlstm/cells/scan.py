"""The time loop that LSTM and sLSTM share: matrix products between pointwise steps.

A recurrence alternates a product with the recurrent matrix and a pointwise map::

    g_t           = W x_t + b + R h_{t−1}                     [rec.1]
    h_t, memory_t = pointwise(g_t, memory_{t−1})

What does not depend on h_{t−1} is done for a block of steps at once, outside of the loop.
Arrays have the batch last, h (NH, DH, B), so that R h is one product of matrices per head, with R
(NH, 4·DH, DH). A step has the gates first, g (4, NH, DH, B), so that each gate is contiguous.
"""

from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from numpy_xlstm.numerics import Array

Memory = tuple[Array, ...]
"""What a cell carries besides h: (c,) for LSTM, (c, n, m) for sLSTM."""

Record = TypeVar("Record", bound=tuple[Array, ...])
"""A named tuple of arrays that a pointwise map fills: those of one step, or stacked over steps."""

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
        """Divide ``kept`` (…, record_size, NH, DH, B) into the arrays of a record, as views."""
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


class Weights(NamedTuple):
    """The parameters of a recurrence, or their gradients."""

    W: Array
    """(4·NH·DH, D), gate by gate."""
    R: Array
    """(NH, 4·DH, DH), gate by gate within a head."""
    b: Array
    """(4·NH·DH,), gate by gate."""


class ScanCache(NamedTuple):
    """What the backward of a scan needs, for all steps."""

    x: Array
    """Inputs, (T, B, D)."""
    hs: Array
    """h_0 … h_T, shape (T+1, B, NH, DH): the outputs are here in the order that they leave in."""
    memories: Memory
    """The memory at each step, (T+1, NH, DH, B)."""
    record: tuple[Array, ...]
    """What the pointwise map has recorded, (T, …)."""
    weights: Weights
    padding: Array | None
    """True at steps that are not there, (T, B); None if there are none."""


def batch_last(h: Array) -> Array:
    """View of (…, B, NH, DH) as (…, NH, DH, B)."""
    return np.moveaxis(h, -3, -1)


def batch_first(h: Array) -> Array:
    """View of (…, NH, DH, B) as (…, B, NH, DH): the inverse of :func:`batch_last`."""
    return np.moveaxis(h, -1, -3)


def at(arrays: Record, t: int) -> Record:
    """One step of stacked arrays, as views."""
    views = (array[t] for array in arrays)
    return type(arrays)(*views) if hasattr(arrays, "_fields") else type(arrays)(views)


def step(cache: ScanCache, t: int) -> Step[Any]:
    """Step t of a scan, as views."""
    return Step(at(cache.memories, t), at(cache.memories, t + 1), at(cache.record, t))


def blocks(T: int) -> list[slice]:
    """Cut T steps into blocks that are short enough for the processor's cache."""
    return [slice(start, min(start + BLOCK, T)) for start in range(0, T, BLOCK)]


def scan(
    x: Array,
    weights: Weights,
    h: Array,
    memory: Memory,
    pointwise: Pointwise[Any],
    padding: Array | None = None,
) -> ScanCache:
    """Run the recurrence over ``x`` (T, B, D); the outputs are ``hs[1:]``.

    A step that is not there leaves h and the memory as they are.
    """
    T, (NH, DH, B) = len(x), h.shape
    size = len(memory) + pointwise.record_size
    hs, kept = np.empty((T + 1, B, NH, DH), h.dtype), np.empty((T + 1, size, NH, DH, B), h.dtype)
    memories, record = kept[:, : len(memory)], pointwise.record(kept[:T, len(memory) :])
    batch_last(hs)[0], memories[0] = h, memory
    cache = ScanCache(x, hs, tuple(memories.swapaxes(0, 1)), record, weights, padding)
    for block in blocks(T):
        pre = project(x[block], weights).reshape(4, NH, DH, -1, B)
        for t in range(block.start, block.stop):
            g = pre[..., t - block.start, :] + recur(batch_last(hs[t]), weights.R)
            before, after, now = step(cache, t)
            pointwise.forward(g, before, batch_last(hs[t + 1]), after, now)
            if padding is not None:
                hs[t + 1, padding[t]] = hs[t, padding[t]]
                for old, new in zip(before, after, strict=True):
                    new[..., padding[t]] = old[..., padding[t]]
    return cache


def scan_backward(
    dhs: Array, dh: Array, dmemory: Memory, cache: ScanCache, pointwise: Pointwise[Any]
) -> tuple[Array, Array, Memory, Weights]:
    """Run back through a scan.

    ``dhs`` (T, B, NH, DH) are the cotangents of the outputs, 0 at padding, ``dh`` and ``dmemory``
    those of the final state. Returns the gradients of ``x``, ``h``, ``memory`` and the weights.
    """
    T, B, NH, DH = dhs.shape
    dx, dweights = np.empty_like(cache.x), Weights(*map(np.zeros_like, cache.weights))
    part = Weights(*map(np.empty_like, cache.weights))
    dg = np.empty((4, NH, DH, B), dhs.dtype)
    dmemory = pointwise.enter_backward(dmemory, at(cache.memories, T))
    for block in reversed(blocks(T)):
        dpre = np.empty((4, NH, DH, block.stop - block.start, B), dhs.dtype)
        for t in reversed(range(block.start, block.stop)):
            dh, dmemory = step_backward(dh + batch_last(dhs[t]), dmemory, cache, t, pointwise, dg)
            dpre[..., t - block.start, :] = dg
        gradients(dpre, cache.x[block], cache.hs[block], out=part)
        for total, summand in zip(dweights, part, strict=True):
            total += summand
        dx[block] = project_backward(dpre, cache.weights)
    dmemory = pointwise.leave_backward(dmemory, at(cache.memories, 0))
    return dx, dh, dmemory, dweights


def step_backward(
    dh: Array, dmemory: Memory, cache: ScanCache, t: int, pointwise: Pointwise[Any], dg: Array
) -> tuple[Array, Memory]:
    """Step t back: writes ``dg``, returns the gradients of h₋ and of the memory before."""
    if cache.padding is None:
        dmemory = pointwise.backward(dh, dmemory, step(cache, t), dg)
        return recur_backward(dg, cache.weights.R), dmemory
    padded = cache.padding[t]
    with np.errstate(divide="ignore", invalid="ignore"):  # of padding, whose results are not used
        dbefore = pointwise.backward(dh, dmemory, step(cache, t), dg)
    dg[..., padded] = 0
    dmemory = tuple(np.where(padded, *d) for d in zip(dmemory, dbefore, strict=True))
    return np.where(padded, dh, recur_backward(dg, cache.weights.R)), dmemory


def project(x: Array, weights: Weights) -> Array:
    """W x + b for rows x (…, D), as (4·NH·DH, rows)."""
    product: Array = weights.W @ x.reshape(-1, x.shape[-1]).T
    product += weights.b[:, None]
    return product


def project_backward(dg: Array, weights: Weights) -> Array:
    """Gradient of x: Wᵀ δg, with δg (4, NH, DH, …, B)  [rec.3]."""
    rows, D = weights.W.shape
    dx: Array = dg.reshape(rows, -1).T @ weights.W
    return dx.reshape(*dg.shape[3:], D)


def recur(h: Array, R: Array) -> Array:
    """R h, head by head: (4, NH, DH, B)."""
    NH, DH, B = h.shape
    return (R @ h).reshape(NH, 4, DH, B).swapaxes(0, 1)


def recur_backward(dg: Array, R: Array) -> Array:
    """Gradient of h: Rᵀ δg  [rec.2]."""
    _, NH, DH, B = dg.shape
    dh: Array = R.swapaxes(1, 2) @ dg.swapaxes(0, 1).reshape(NH, 4 * DH, B)
    return dh


def gradients(dg: Array, x: Array, h_prev: Array, out: Weights) -> None:
    """Gradients of the weights: sums over the rows of x (…, B, D) and h₋ (…, B, NH, DH).

    δg is (4, NH, DH, …, B).
    """
    _, NH, DH = dg.shape[:3]
    rows, rows_by_head = dg.reshape(4 * NH * DH, -1), dg.reshape(4, NH, DH, -1)
    R_by_head = out.R.reshape(NH, 4, DH, DH).swapaxes(0, 1)
    np.matmul(rows, x.reshape(-1, x.shape[-1]), out=out.W)  # [rec.4]
    np.matmul(rows_by_head, h_prev.reshape(-1, NH, DH).swapaxes(0, 1), out=R_by_head)  # [rec.5]
    np.sum(rows, axis=1, out=out.b)  # [rec.6]
