"""LSTM: the equations between two matrix products, forward and backward.

Derived in ``docs/derivations/lstm.md``, whose tags are cited here.
"""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.cells.scan import Memory
from numpy_xlstm.numerics import Array, sigmoid_and_slope, tanh_slope


class LSTMStepCache(NamedTuple):
    """What one step of LSTM keeps for its backward; arrays are (B, NH, DH)."""

    i_f: Array
    """Gates i and f, shape (B, NH, 2, DH)."""
    i_f_slope: Array
    """σ′ of both."""
    z_pre: Array
    z: Array
    o: Array
    o_slope: Array
    c_prev: Array
    c: Array
    tanh_c: Array


class LSTMPointwise:
    """Gate pre-activations and c₋ to h and c."""

    def forward(self, g: Array, memory: Memory) -> tuple[Array, Memory, LSTMStepCache]:
        """One step; ``g`` (..., 4, DH) holds the pre-activations of i, f, z, o."""
        (c_prev,) = memory
        i_f, i_f_slope = sigmoid_and_slope(g[..., :2, :])  # [lstm.1]
        o, o_slope = sigmoid_and_slope(g[..., 3, :])
        i, f = i_f[..., 0, :], i_f[..., 1, :]
        z_pre = g[..., 2, :].copy()
        z = np.tanh(z_pre)  # [lstm.2]
        c = f * c_prev
        c += i * z  # [lstm.3]
        tanh_c = np.tanh(c)
        h = o * tanh_c  # [lstm.4]
        cache = LSTMStepCache(i_f, i_f_slope, z_pre, z, o, o_slope, c_prev, c, tanh_c)
        return h, (c,), cache

    def backward(self, dh: Array, dmemory: Memory, cache: LSTMStepCache, dg: Array) -> Memory:
        """Back through one step: writes the gradient of ``g``, returns that of c₋."""
        i_f, i_f_slope, z_pre, z, o, o_slope, c_prev, c, tanh_c = cache
        i, f = i_f[..., 0, :], i_f[..., 1, :]
        (dc,) = dmemory
        dc = dc + dh * o * tanh_slope(c)  # [lstm.5]
        np.multiply(dc * z, i_f_slope[..., 0, :], out=dg[..., 0, :])  # [lstm.6]
        np.multiply(dc * c_prev, i_f_slope[..., 1, :], out=dg[..., 1, :])  # [lstm.7]
        np.multiply(dc * i, tanh_slope(z_pre), out=dg[..., 2, :])  # [lstm.8]
        np.multiply(dh * tanh_c, o_slope, out=dg[..., 3, :])  # [lstm.9]
        dc *= f  # [lstm.10]
        return (dc,)

    def enter_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Nothing to translate."""
        return dmemory

    def leave_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Nothing to translate."""
        return dmemory
