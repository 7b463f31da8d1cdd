"""LSTM and sLSTM over pre-activations that the caller has made: the recurrence and nothing else.

This is what a kernel computes, and what a layer needs whose inputs reach the gates in another way
than by one matrix. Derived in ``docs/derivations/recurrence.md``, whose tags are cited here.
"""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple

import numpy as np

from numpy_xlstm.cells.padding import check_lengths, padding, without_padding
from numpy_xlstm.cells.scan import Pointwise, ScanCache, scan, scan_backward
from numpy_xlstm.cells.state_form import State, StateForm
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array, check_array, check_batch
from numpy_xlstm.signatures import Signed, opened_by_function


class GivenCache(NamedTuple, Generic[State]):
    """What the backward of a recurrence over given pre-activations needs."""

    form: StateForm[State]
    pointwise: Pointwise
    scan: ScanCache


def recurrent(
    name: str,
    kind: type[State],
    pointwise: Pointwise,
    Wx: Any,
    R: Any,
    state: Sequence[Any] | None,
    lengths: Any,
) -> tuple[Array, State, Signed[GivenCache[State]]]:
    """Check the arguments and run over all steps."""
    check_array("R", R, ("heads", "4*DH", "DH"))
    NH, rows, DH = R.shape
    if rows != 4 * DH or 0 in R.shape:
        raise ShapeError(f"R: expected shape (NH, 4·DH, DH); got {R.shape}")
    check_array("Wx", Wx, ("batch", "time", 4 * NH * DH), R.dtype)
    check_batch("Wx", Wx)
    B, T, _ = Wx.shape
    form: StateForm[State] = StateForm(kind, B, NH, DH, R.dtype)
    h, memory = form.split(form.start(state))
    padded = None if lengths is None else padding(check_lengths(lengths, B, T), T)
    gates = Wx.swapaxes(0, 1).reshape(T, B, 4, NH, DH)
    y = np.empty((B, T, NH * DH), R.dtype)

    def source(block: slice, out: Array) -> None:
        out[...] = gates[block].transpose(0, 2, 3, 4, 1)

    def taker(block: slice, outputs: Array) -> None:
        there = outputs if padded is None else without_padding(outputs, padded[block])
        y[:, block] = there.reshape(*there.shape[:2], -1).swapaxes(0, 1)

    scanned = scan(source, taker, T, R, h, memory, pointwise, padded)  # [rec.1]
    after = form.join(scanned.hs[-1], scanned.memory[-1])
    return y, after, Signed.by_function(name, y, GivenCache(form, pointwise, scanned))


def recurrent_backward(
    name: str,
    dy: Array,
    cache: Signed[GivenCache[State]],
    dstate: Sequence[Any] | None,
) -> tuple[Array, Array, State]:
    """Check the arguments and run back: gradients of Wx, of R and of the state before."""
    form, pointwise, scanned = opened_by_function(cache, name, dy)
    B, T, H = dy.shape
    dh, dmemory = form.split(form.finish(dstate))
    dhs = dy.swapaxes(0, 1).reshape(T, B, form.NH, form.DH)
    dhs = without_padding(dhs, scanned.padding)
    dWx = np.empty((B, T, 4, form.NH, form.DH), form.dtype)

    def sink(block: slice, dpre: Array) -> None:
        dWx[:, block] = dpre.transpose(4, 3, 0, 1, 2)  # [rec.7]

    dh, dmemory, dR = scan_backward(  # [rec.2] [rec.5]
        dhs, dh, dmemory, scanned, pointwise, sink
    )
    return dWx.reshape(B, T, 4 * H), dR, form.join(dh, dmemory)
