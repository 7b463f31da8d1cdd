"""LSTM: the equations between two matrix products, forward and backward.

Derived in ``docs/derivations/lstm.md``, whose tags are cited here.
"""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.cells.scan import Memory, Step
from numpy_xlstm.numerics import Array, sigmoid_and_slope, tanh_slope


class LSTMRecord(NamedTuple):
    """What a step of LSTM keeps for its backward."""

    gates: Array
    """i, f, z, o: shape (4, NH, DH, B)."""
    slopes: Array
    """Their derivatives by their pre-activations, likewise."""
    tanh_c: Array
    """Shape (NH, DH, B)."""


class LSTMPointwise:
    """Gate pre-activations and c₋ to h and c."""

    record_size = 9

    def record(self, kept: Array) -> LSTMRecord:
        """Divide ``kept`` (9, NH, DH, B) into the arrays of a record."""
        return LSTMRecord(kept[:4], kept[4:8], kept[8])

    def forward(
        self, g: Array, before: Memory, h: Array, after: Memory, record: LSTMRecord
    ) -> None:
        """One step; ``g`` (4, NH, DH, B), the pre-activations of i, f, z, o, is overwritten."""
        gates, slopes, tanh_c = record
        (i, f, z, o), (c_prev,), (c,) = gates, before, after
        tanh_z = np.tanh(g[2])
        g[2] *= 2  # tanh′(z̃) = 4 σ′(2 z̃), so that one call gives all slopes
        sigmoid_and_slope(g, out=(gates, slopes))  # [lstm.1]
        slopes[2] *= 4
        z[...] = tanh_z  # [lstm.2]
        np.multiply(f, c_prev, out=c)
        c += i * z  # [lstm.3]
        np.tanh(c, out=tanh_c)
        np.multiply(o, tanh_c, out=h)  # [lstm.4]

    def backward(self, dh: Array, dmemory: Memory, at: Step[LSTMRecord], dg: Array) -> Memory:
        """Back through one step: writes the gradient of ``g``, returns that of c₋."""
        gates, slopes, tanh_c = at.record
        (i, f, z, o), (dc,), (c_prev,), (c,) = gates, dmemory, at.before, at.after
        di, df, dz, do = dg
        dread = tanh_slope(c)
        dread *= o
        dread *= dh
        dc = dc + dread  # [lstm.5]
        np.multiply(dc, z, out=di)  # [lstm.6]
        np.multiply(dc, c_prev, out=df)  # [lstm.7]
        np.multiply(dc, i, out=dz)  # [lstm.8]
        np.multiply(dh, tanh_c, out=do)  # [lstm.9]
        dg *= slopes  # completes the last four
        dc *= f  # [lstm.10]
        return (dc,)

    def enter_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Nothing to translate."""
        return dmemory

    def leave_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Nothing to translate."""
        return dmemory
