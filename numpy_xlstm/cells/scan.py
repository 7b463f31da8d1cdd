"""The time loop that LSTM and sLSTM share: matrix products between pointwise steps.

A recurrence alternates a product with the recurrent matrix and a pointwise map::

    g_t           = W x_t + b + R h_{t−1}                     [rec.1]
    h_t, memory_t = pointwise(g_t, memory_{t−1})

What does not depend on h_{t−1} is done for a block of steps at once, outside of the loop.
Arrays have the batch last, h (NH, DH, B), so that R h is one product of matrices per head, with R
(NH, 4·DH, DH). What belongs to a step is contiguous: pre-activations g_t (4, NH, DH, B), gate by
gate, and likewise the memory and all that is kept for the backward. Steps are the first axis.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from numpy_xlstm.numerics import Array

ENTRIES = 50_000
"""Entries of h per block of steps: few, for a block to stay in the processor's cache."""

SHORTEST, LONGEST = 12, 48
"""Steps of a block at the least, or its products are too small, and at the most."""


class Step(NamedTuple):
    """One step, as its backward sees it."""

    before: Array
    """The memory, (size, NH, DH, B)."""
    after: Array
    record: Array
    """What the pointwise map has kept, (record_size, NH, DH, B)."""
    slopes: Array
    """What it has made of that for a block of steps at once."""


class Cotangent(NamedTuple):
    """Cotangent of the memory, in the coordinates of a pointwise map's backward."""

    d: Array
    """Those of the parts of the memory that carry one, stacked."""
    residual: Array | None
    """The gauge residual, see ``docs/derivations/stabiliser.md``; None where it is 0."""


class Pointwise(Protocol):
    """What happens between two matrix products: pure maps, and no parameters.

    Results are written to arrays that the caller has made. The backward may carry the cotangent of
    the memory in coordinates of its own; ``enter_backward`` and ``leave_backward`` translate.
    """

    record_size: int
    """How many arrays of the shape of h a record takes for a step."""

    def forward(
        self, before: Array, record: Array, h: Array, after: Array, first: bool = False
    ) -> None:
        """Map pre-activations and the memory before to h and the memory after.

        ``record[:4]`` comes with the pre-activations of i, f, z, o, and leaves with what the
        backward needs. ``first`` says that the memory before may be as a caller has given it.
        """
        ...

    def slopes(self, record: Array, after: Array) -> Array:
        """Make, for several steps at once, what ``backward`` finds in ``Step.slopes``."""
        ...

    def backward(self, dh: Array, dmemory: Cotangent, at: Step, dg: Array) -> Cotangent:
        """Write the gradient of g to ``dg``, return that of the memory before.

        ``dmemory.d`` is overwritten.
        """
        ...

    def enter_backward(self, dmemory: Array, memory: Array) -> Cotangent:
        """Translate the cotangent of the final memory, to arrays that are not the caller's."""
        ...

    def leave_backward(self, dmemory: Cotangent, memory: Array) -> Array:
        """Translate back, at the initial memory."""
        ...


class ScanCache(NamedTuple):
    """What the backward of a scan needs, for all steps."""

    hs: Array
    """h_0 … h_T, (T+1, NH, DH, B)."""
    memory: Array
    """(c,) of LSTM or (c, n, m) of sLSTM, likewise: (T+1, size, NH, DH, B)."""
    records: tuple[Array, ...]
    """What the pointwise map has recorded, (steps, record_size, NH, DH, B) for each block."""
    R: Array
    """The recurrent matrix, (NH, 4·DH, DH), gate by gate within a head."""
    padding: Array | None
    """True at steps that are not there, (T, B); None if there are none."""


Source = Callable[[slice, Array], None]
"""Writes W x + b of a block of steps, (steps, 4, NH, DH, B); each step is contiguous."""

Taker = Callable[[slice, Array], None]
"""Takes the outputs of a block of steps, (steps, B, NH, DH)."""

Sink = Callable[[slice, Array], None]
"""Takes the gradient of what the source has written, (4, NH, DH, steps, B), from the last block on.
"""


def batch_last(h: Array) -> Array:
    """View of (…, B, NH, DH) as (…, NH, DH, B)."""
    return h.swapaxes(-3, -2).swapaxes(-2, -1)


def batch_first(h: Array) -> Array:
    """View of (…, NH, DH, B) as (…, B, NH, DH): the inverse of :func:`batch_last`."""
    return h.swapaxes(-2, -1).swapaxes(-3, -2)


def steps_first(g: Array) -> Array:
    """View of (4, NH, DH, steps, B) as (steps, 4, NH, DH, B)."""
    return g.transpose(3, 0, 1, 2, 4)


def steps_inside(g: Array) -> Array:
    """Copy of (steps, 4, NH, DH, B) as (4, NH, DH, steps, B): undoes :func:`steps_first`."""
    return np.ascontiguousarray(g.transpose(1, 2, 3, 0, 4))


def blocks(T: int, entries: int) -> list[slice]:
    """Cut T steps with so many entries of h each into blocks of equal length.

    If one is shorter it comes first.
    """
    length = min(max(ENTRIES // entries, SHORTEST), LONGEST)
    return [slice(max(0, stop - length), stop) for stop in range(T, 0, -length)][::-1]


def following(block: slice) -> slice:
    """Where the states after the steps of a block are, among those before and after all steps."""
    return slice(block.start + 1, block.stop + 1)


def scan(
    source: Source,
    taker: Taker,
    T: int,
    R: Array,
    h: Array,
    memory: Array,
    pointwise: Pointwise,
    padding: Array | None = None,
) -> ScanCache:
    """Run the recurrence over T steps.

    A step that is not there leaves h and the memory as they are.
    """
    hs = np.empty((T + 1, *h.shape), h.dtype)
    memories = np.empty((T + 1, *memory.shape), h.dtype)
    hs[0], memories[0] = h, memory
    places = blocks(T, h.size)
    kept = [
        np.empty((len(hs[block]), pointwise.record_size, *h.shape), h.dtype) for block in places
    ]

    for block, records in zip(places, kept, strict=True):
        source(block, records[:, :4])
        after = following(block)
        states = zip(hs[block], hs[after], memories[block], memories[after], strict=True)
        steps = zip(range(T)[block], records, strict=True)
        for (t, record), (h_prev, h, before, memory) in zip(steps, states, strict=True):
            record[:4] += recur(h_prev, R)  # [rec.1]
            pointwise.forward(before, record, h, memory, first=t == 0 or padding is not None)
            if padding is not None:
                h[..., padding[t]] = h_prev[..., padding[t]]
                memory[..., padding[t]] = before[..., padding[t]]
        taker(block, np.ascontiguousarray(batch_first(hs[after])))
    return ScanCache(hs, memories, tuple(kept), R, padding)


def scan_backward(
    dhs: Array,
    dh: Array,
    dmemory: Array,
    cache: ScanCache,
    pointwise: Pointwise,
    sink: Sink,
) -> tuple[Array, Array, Array]:
    """Run back through a scan.

    ``dhs`` (T, B, NH, DH) are the cotangents of the outputs, 0 at padding, ``dh`` and ``dmemory``
    those of the final state. The gradient of the source goes to the sink; those of ``h``,
    ``memory`` and ``R`` are returned.
    """
    hs, memory, kept, R, padding = cache
    dR = np.zeros_like(R)
    d = pointwise.enter_backward(dmemory, memory[-1])
    places = blocks(len(dhs), dh.size)
    for block, records in zip(reversed(places), reversed(kept), strict=True):
        slopes = pointwise.slopes(records, memory[following(block)])
        douts = np.ascontiguousarray(batch_last(dhs[block]))
        dg = np.empty((len(douts), 4, *dh.shape), dh.dtype)
        for n in reversed(range(len(douts))):
            t = block.start + n
            at = Step(memory[t], memory[t + 1], records[n], slopes[n])
            padded = None if padding is None else padding[t]
            dh, d = step_backward(douts[n] + dh, d, at, R, pointwise, dg[n], padded)
        dpre = steps_inside(dg)
        np.add(dR, recurrent_gradient(dpre, hs[block]), out=dR)
        sink(block, dpre)
    return dh, pointwise.leave_backward(d, memory[0]), dR


def step_backward(
    dh: Array,
    dmemory: Cotangent,
    at: Step,
    R: Array,
    pointwise: Pointwise,
    dg: Array,
    padded: Array | None,
) -> tuple[Array, Cotangent]:
    """Take one step back: writes ``dg``, returns the gradients of h₋ and of the memory before."""
    if padded is None:
        dmemory = pointwise.backward(dh, dmemory, at, dg)
        return recur_backward(dg, R), dmemory
    d, r = dmemory
    with np.errstate(divide="ignore", invalid="ignore"):  # of padding, whose results are not used
        before = pointwise.backward(dh, Cotangent(d.copy(), r), at, dg)
    dg[..., padded] = 0
    if r is not None and before.residual is not None:
        r = np.where(padded, r, before.residual)
    dmemory = Cotangent(np.where(padded, d, before.d), r)
    return np.where(padded, dh, recur_backward(dg, R)), dmemory


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
    """Gradient of R: the sum of δg h₋ᵀ over steps and rows.

    δg is (4, NH, DH, steps, B), h₋ (steps, NH, DH, B).
    """
    _, NH, DH = dg.shape[:3]
    dR: Array = np.empty((NH, 4, DH, DH), dg.dtype)
    by_head = h_prev.transpose(1, 0, 3, 2).reshape(NH, -1, DH)
    np.matmul(dg.reshape(4, NH, DH, -1), by_head, out=dR.swapaxes(0, 1))  # [rec.5]
    return dR.reshape(NH, 4 * DH, DH)
