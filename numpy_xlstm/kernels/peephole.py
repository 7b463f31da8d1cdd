"""Peephole LSTM over a whole sequence, derived in ``docs/derivations/peephole.md``."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.cells.lstm import LSTMState
from numpy_xlstm.kernels import scan
from numpy_xlstm.kernels.functions import pointwise, sigmoid, sigmoid_and_slope, tanh, tanh_slope
from numpy_xlstm.numerics import Array


@pointwise
def step(pre: Any, memory: Any, constants: Any) -> Any:
    """Return h and c after a step."""
    (a_i, a_f, z_pre, a_o), (c,), (p_i, p_f, p_o) = pre, memory, constants
    i, f = sigmoid(a_i + p_i * c), sigmoid(a_f + p_f * c)  # [peephole.2] [peephole.3]
    c = f * c + i * tanh(z_pre)  # [peephole.4]
    return sigmoid(a_o + p_o * c) * tanh(c), c  # [peephole.5] [peephole.6] [peephole.7]


@pointwise
def derivatives(pre: Any, before: Any, after: Any, constants: Any) -> Any:
    """Return the derivatives of h with respect to c, õ, and of c with respect to ĩ, f̃, z̃, c₋."""
    (a_i, a_f, z_pre, a_o), (c_prev,), (c,), (p_i, p_f, p_o) = pre, before, after, constants
    i, i_slope = sigmoid_and_slope(a_i + p_i * c_prev)
    f, f_slope = sigmoid_and_slope(a_f + p_f * c_prev)
    o, o_slope = sigmoid_and_slope(a_o + p_o * c)
    by_i, by_f, by_z = tanh(z_pre) * i_slope, c_prev * f_slope, i * tanh_slope(z_pre)
    by_o = tanh(c) * o_slope
    h_by_c, c_by_c = o * tanh_slope(c) + p_o * by_o, f + p_i * by_i + p_f * by_f
    return h_by_c, by_o, by_i, by_f, by_z, c_by_c


@pointwise
def step_backward(d: Any, factors: Any) -> Any:
    """Return the gradients of the pre-activations and of c₋."""
    (dh, dc), (h_by_c, by_o, by_i, by_f, by_z, c_by_c) = d, factors
    dc = dc + dh * h_by_c  # [peephole.9]
    di, df, dz = dc * by_i, dc * by_f, dc * by_z  # [peephole.10] [peephole.11] [peephole.12]
    return di, df, dz, dh * by_o, dc * c_by_c  # [peephole.8] [peephole.13]


CELL = scan.Recurrence(step, derivatives, step_backward, LSTMState, num_pre=4, num_constants=3)


def forward(
    Wx: Array, params: Mapping[str, Array], state: LSTMState, lengths: Array | None
) -> tuple[Array, LSTMState, scan.ScanCache]:
    """Run :meth:`scan.Recurrence.forward` with the weights P as constants."""
    return CELL.forward(Wx, params, state, lengths, params["P"].reshape(3, -1))


def backward(
    dy: Array, cache: scan.ScanCache, dstate: LSTMState
) -> tuple[Array, LSTMState, dict[str, Array]]:
    """Run :meth:`scan.Recurrence.backward`, and add the gradient of P."""
    dWx, dstate0, grads = CELL.backward(dy, cache, dstate)
    di, df, _, do = np.split(dWx, 4, axis=-1)
    c = scan.by_row(cache.states[:, :, 1])
    c_prev, c = c[:, :-1], c[:, 1:]
    pairs = (di, c_prev), (df, c_prev), (do, c)
    dP = np.concatenate([(dg * seen).sum(axis=(0, 1)) for dg, seen in pairs])  # [peephole.17]
    return dWx, dstate0, grads | {"P": dP}
