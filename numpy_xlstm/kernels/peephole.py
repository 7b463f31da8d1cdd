"""Peephole LSTM over a whole sequence, derived in ``docs/derivations/peephole.md``."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.cells.lstm import LSTMState
from numpy_xlstm.kernels import scan
from numpy_xlstm.kernels.functions import (
    pointwise,
    sigmoid,
    sigmoid_and_slope,
    tanh,
    tanh_slope,
)
from numpy_xlstm.numerics import Array


@pointwise
def step(a_i: Any, a_f: Any, z_pre: Any, a_o: Any, c: Any, p_i: Any, p_f: Any, p_o: Any) -> Any:
    """Return h and c after a step."""
    i, f = sigmoid(a_i + p_i * c), sigmoid(a_f + p_f * c)  # [peephole.2] [peephole.3]
    c = f * c + i * tanh(z_pre)  # [peephole.4]
    return sigmoid(a_o + p_o * c) * tanh(c), c  # [peephole.5] [peephole.6] [peephole.7]


@pointwise
def derivatives(
    a_i: Any,
    a_f: Any,
    z_pre: Any,
    a_o: Any,
    c_prev: Any,
    c: Any,
    p_i: Any,
    p_f: Any,
    p_o: Any,
) -> Any:
    """Return the derivatives of h by c and õ, of c by ĩ, f̃ and z̃, and of c by c₋."""
    i, i_slope = sigmoid_and_slope(a_i + p_i * c_prev)
    f, f_slope = sigmoid_and_slope(a_f + p_f * c_prev)
    o, o_slope = sigmoid_and_slope(a_o + p_o * c)
    by_i, by_f, by_z = tanh(z_pre) * i_slope, c_prev * f_slope, i * tanh_slope(z_pre)
    by_o = tanh(c) * o_slope
    h_by_c, c_by_c = o * tanh_slope(c) + p_o * by_o, f + p_i * by_i + p_f * by_f
    return h_by_c, by_o, by_i, by_f, by_z, c_by_c


@pointwise
def step_backward(
    dh: Any, dc: Any, h_by_c: Any, by_o: Any, by_i: Any, by_f: Any, by_z: Any, c_by_c: Any
) -> Any:
    """Return the gradients of the pre-activations and of c₋."""
    dc = dc + dh * h_by_c  # [peephole.9]
    di, df, dz = dc * by_i, dc * by_f, dc * by_z  # [peephole.10] [peephole.11] [peephole.12]
    return di, df, dz, dh * by_o, dc * c_by_c  # [peephole.8] [peephole.13]


CELL = scan.Recurrence(step, derivatives, step_backward, gates=4, memory=1, units=3)


def forward(
    Wx: Array, params: Mapping[str, Array], state: LSTMState, ends: Array
) -> tuple[Array, LSTMState, scan.ScanCache]:
    """Run over Wx (B, T, 4·H), of which row b has ``ends[b]`` steps, without checks.

    Wx is written to.
    """
    R, units = scan.by_head(params["R"], 4), params["P"].reshape(3, 1, -1)
    y, cache = scan.forward(CELL, scan.gates(Wx, R), R, state, ends, units)
    return y, LSTMState(*cache.state(ends)), cache


def backward(
    dy: Array, cache: scan.ScanCache, dstate: LSTMState
) -> tuple[Array, LSTMState, dict[str, Array]]:
    """Return the gradients of Wx, of the state before and of the parameters, without checks."""
    dgates, d = scan.backward(CELL, dy, cache, dstate)
    di, df, _, do = dgates[:, :, :, 0].transpose(2, 1, 0, 3)
    c_prev, c = cache.memory[:-1, 0, 0], cache.memory[1:, 0, 0]
    pairs = (di, c_prev), (df, c_prev), (do, c)
    dP = np.concatenate([(dg * seen).sum(axis=(0, 1)) for dg, seen in pairs])  # [peephole.17]
    grads = {"R": scan.gradient_of_R(dgates, cache), "P": dP}
    return scan.joined(dgates), LSTMState(*d), grads
