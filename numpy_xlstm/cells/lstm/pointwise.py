"""LSTM: the equations between two matrix products, forward and backward.

Derived in ``docs/derivations/lstm.md``, whose tags are cited here.
"""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.scan import Memory, Step
from numpy_xlstm.numerics import Array, sigmoid_and_slope, tanh_slope


class LSTMRecord(NamedTuple):
    """What a step of LSTM keeps for its backward; arrays are (B, NH, DH)."""

    i_f: Array
    """Gates i and f, shape (2, B, NH, DH)."""
    i_f_slope: Array
    """σ′ of both."""
    z: Array
    o: Array
    o_slope: Array
    tanh_c: Array


class LSTMPointwise:
    """Gate pre-activations and c₋ to h and c."""

    def record(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> LSTMRecord:
        """Make the arrays for what the backward needs."""
        block = np.empty((8, *shape), dtype)
        i_f, i_f_slope = (np.moveaxis(pair, 0, -4) for pair in (block[:2], block[2:4]))
        return LSTMRecord(i_f, i_f_slope, *block[4:])

    def forward(
        self, g: Array, before: Memory, h: Array, after: Memory, record: LSTMRecord
    ) -> None:
        """One step; ``g`` (…, 4, DH) holds the pre-activations of i, f, z, o."""
        i_f, i_f_slope, z, o, o_slope, tanh_c = record
        (c_prev,), (c,) = before, after
        sigmoid_and_slope(np.moveaxis(g[..., :2, :], -2, 0), out=(i_f, i_f_slope))  # [lstm.1]
        sigmoid_and_slope(g[..., 3, :], out=(o, o_slope))
        np.tanh(g[..., 2, :], out=z)  # [lstm.2]
        i, f = i_f
        np.multiply(f, c_prev, out=c)
        c += i * z  # [lstm.3]
        np.tanh(c, out=tanh_c)
        np.multiply(o, tanh_c, out=h)  # [lstm.4]

    def backward(self, dh: Array, dmemory: Memory, at: Step[LSTMRecord], dg: Array) -> Memory:
        """Back through one step: writes the gradient of ``g``, returns that of c₋."""
        (i, f), (i_slope, f_slope), z, o, o_slope, tanh_c = at.record
        (dc,), (c_prev,), (c,) = dmemory, at.before, at.after
        dc = dc + dh * o * tanh_slope(c)  # [lstm.5]
        np.multiply(dc * z, i_slope, out=dg[..., 0, :])  # [lstm.6]
        np.multiply(dc * c_prev, f_slope, out=dg[..., 1, :])  # [lstm.7]
        np.multiply(dc * i, tanh_slope(at.g[..., 2, :]), out=dg[..., 2, :])  # [lstm.8]
        np.multiply(dh * tanh_c, o_slope, out=dg[..., 3, :])  # [lstm.9]
        dc *= f  # [lstm.10]
        return (dc,)

    def enter_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Nothing to translate."""
        return dmemory

    def leave_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Nothing to translate."""
        return dmemory
