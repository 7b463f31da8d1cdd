"""LSTM: the equations between two matrix products, forward and backward.

Derived in ``docs/derivations/lstm.md``, whose tags are cited here.
"""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.cells.scan import Memory
from numpy_xlstm.numerics import Array, sigmoid, sigmoid_slope, tanh_slope


class LSTMStepCache(NamedTuple):
    """What one step of LSTM keeps for its backward; every array is (B, NH, DH)."""

    i: Array
    f: Array
    z: Array
    o: Array
    c_prev: Array
    tanh_c: Array


class LSTMPointwise:
    """Gate pre-activations and c₋ to h and c."""

    def forward(self, g: Array, memory: Memory) -> tuple[Array, Memory, LSTMStepCache]:
        """One step; ``g`` (..., 4, DH) holds the pre-activations of i, f, z, o."""
        (c_prev,) = memory
        i_f, o = sigmoid(g[..., :2, :]), sigmoid(g[..., 3, :])  # [lstm.1]
        i, f = i_f[..., 0, :], i_f[..., 1, :]
        z = np.tanh(g[..., 2, :])  # [lstm.2]
        c = f * c_prev
        c += i * z  # [lstm.3]
        tanh_c = np.tanh(c)
        h = o * tanh_c  # [lstm.4]
        return h, (c,), LSTMStepCache(i, f, z, o, c_prev, tanh_c)

    def backward(self, dh: Array, dmemory: Memory, cache: LSTMStepCache, dg: Array) -> Memory:
        """Back through one step: writes the gradient of ``g``, returns that of c₋."""
        i, f, z, o, c_prev, tanh_c = cache
        (dc,) = dmemory
        dc = dc + dh * o * tanh_slope(tanh_c)  # [lstm.5]
        np.multiply(dc * z, sigmoid_slope(i), out=dg[..., 0, :])  # [lstm.6]
        np.multiply(dc * c_prev, sigmoid_slope(f), out=dg[..., 1, :])  # [lstm.7]
        np.multiply(dc * i, tanh_slope(z), out=dg[..., 2, :])  # [lstm.8]
        np.multiply(dh * tanh_c, sigmoid_slope(o), out=dg[..., 3, :])  # [lstm.9]
        dc *= f  # [lstm.10]
        return (dc,)

    def enter_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Nothing to translate."""
        return dmemory

    def leave_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Nothing to translate."""
        return dmemory
