"""GRU over a whole sequence, derived in ``docs/derivations/gru.md``.

The gates are a_r, a_z, a_n, of the input, and s_r, s_z, s_n, of the state. h is also the memory, as
a step reads it by itself and not through R alone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.cells.gru import GRUState
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
def step(a_r: Any, a_z: Any, a_n: Any, s_r: Any, s_z: Any, s_n: Any, h: Any) -> Any:
    """Return h after a step, as output and as memory."""
    r, z_pre = sigmoid(a_r + s_r), a_z + s_z  # [gru.3] [gru.4]
    h = sigmoid(-z_pre) * tanh(a_n + r * s_n) + sigmoid(z_pre) * h  # [gru.5] [gru.6] [gru.7]
    return h, h


@pointwise
def derivatives(
    a_r: Any, a_z: Any, a_n: Any, s_r: Any, s_z: Any, s_n: Any, h_prev: Any, h: Any
) -> Any:
    """Return the derivatives of h by ñ and z̃, of ñ by r̃, and r and z."""
    r, r_slope = sigmoid_and_slope(a_r + s_r)
    z, z_slope = sigmoid_and_slope(a_z + s_z)
    n_pre = a_n + r * s_n
    by_n, by_z = sigmoid(-a_z - s_z) * tanh_slope(n_pre), (h_prev - tanh(n_pre)) * z_slope
    return by_n, by_z, s_n * r_slope, r, z


@pointwise
def step_backward(dh: Any, dmemory: Any, by_n: Any, by_z: Any, n_by_r: Any, r: Any, z: Any) -> Any:
    """Return the gradients of the gates, and of h₋ by what reads it without R."""
    dh = dh + dmemory
    dn, dz = dh * by_n, dh * by_z  # [gru.8] [gru.9]
    dr = dn * n_by_r  # [gru.10]
    return dr, dz, dn, dr, dz, r * dn, z * dh  # [gru.11] [gru.12] [gru.14]


CELL = scan.Recurrence(step, derivatives, step_backward, gates=6, memory=1)


def forward(
    Wx: Array, params: Mapping[str, Array], state: GRUState, ends: Array
) -> tuple[Array, GRUState, scan.ScanCache]:
    """Run over Wx (B, T, 3·H), of which row b has ``ends[b]`` steps, without checks."""
    R, (B, T, width) = scan.by_head(params["R"], 3), Wx.shape
    gates = np.empty((B, T, 2 * width), Wx.dtype)
    gates[..., :width], gates[..., width:] = Wx, params["b_h"]
    y, cache = scan.forward(CELL, scan.gates(gates, R), R, (state.h, state.h), ends)
    return y, GRUState(cache.state(ends)[0]), cache


def backward(
    dy: Array, cache: scan.ScanCache, dstate: GRUState
) -> tuple[Array, GRUState, dict[str, Array]]:
    """Return the gradients of Wx, of the state before and of the parameters, without checks."""
    dgates, (by_R, by_memory) = scan.backward(CELL, dy, cache, (dstate.h, np.zeros_like(dstate.h)))
    da, ds = np.split(scan.joined(dgates), 2, axis=-1)
    grads = {"R": scan.gradient_of_R(dgates, cache), "b_h": ds.sum(axis=(0, 1))}  # [gru.17]
    return da, GRUState(by_R + by_memory), grads  # [gru.14]
