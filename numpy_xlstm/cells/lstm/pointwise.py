"""LSTM: the equations between two matrix products, forward and backward.

Derived in ``docs/derivations/lstm.md``, whose tags are cited here.
"""

import numpy as np

from numpy_xlstm.cells.scan import Cotangent, Step
from numpy_xlstm.numerics import Array, tanh_slope
from numpy_xlstm.numerics.activations import exp_minus


class LSTMPointwise:
    """Gate pre-activations and c₋ to h and c.

    A record holds i, f, z, o; then e^−x for each of their pre-activations, with x = 2 z̃ for z, of
    which all slopes are made; then tanh c.
    """

    record_size = 9

    def forward(
        self, before: Array, record: Array, h: Array, after: Array, first: bool = False
    ) -> None:
        """One step; ``record[:4]`` comes with the pre-activations of i, f, z, o."""
        gates, e, tanh_c = record[:4], record[4:8], record[8]
        i, f, z, o = gates
        (c_prev,), (c,) = before, after
        tanh_z = np.tanh(z)
        z *= 2
        exp_minus(gates, out=e)
        np.add(e, 1, out=gates)
        np.reciprocal(gates, out=gates)  # [lstm.1]
        z[...] = tanh_z  # [lstm.2]
        np.multiply(f, c_prev, out=c)
        c += i * z  # [lstm.3]
        np.tanh(c, out=tanh_c)
        np.multiply(o, tanh_c, out=h)  # [lstm.4]

    def slopes(self, record: Array, after: Array) -> Array:
        """Derivatives of i, f, z, o by their pre-activations, and of tanh c: (steps, 5, …)."""
        gates, e = record[:, :4], record[:, 4:8]
        slopes = np.empty((len(record), 5, *record.shape[2:]), record.dtype)
        np.multiply(e, gates, out=slopes[:, :4])
        slopes[:, :4] *= gates  # σ′(x) = e^−x σ(x)²
        s = 1 / (1 + e[:, 2])
        slopes[:, 2] = 4 * (e[:, 2] * s) * s  # tanh′(z̃) = 4 σ′(2 z̃)
        tanh_slope(after[:, 0], out=slopes[:, 4])
        return slopes

    def backward(self, dh: Array, dmemory: Cotangent, at: Step, dg: Array) -> Cotangent:
        """Back through one step: writes the gradient of ``g``, returns that of c₋."""
        i, f, z, o, *_, tanh_c = at.record
        (dc,), (c_prev,) = dmemory.d, at.before
        di, df, dz, do = dg
        dread = dh * o
        dread *= at.slopes[4]
        dc += dread  # [lstm.5]
        np.multiply(dc, z, out=di)  # [lstm.6]
        np.multiply(dc, c_prev, out=df)  # [lstm.7]
        np.multiply(dc, i, out=dz)  # [lstm.8]
        np.multiply(dh, tanh_c, out=do)  # [lstm.9]
        dg *= at.slopes[:4]  # completes the last four
        dc *= f  # [lstm.10]
        return dmemory

    def enter_backward(self, dmemory: Array, memory: Array) -> Cotangent:
        """Nothing to translate."""
        return Cotangent(dmemory.copy(), None)

    def leave_backward(self, dmemory: Cotangent, memory: Array) -> Array:
        """Nothing to translate."""
        return dmemory.d
