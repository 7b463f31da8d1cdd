"""GRU over a whole sequence, derived in ``docs/derivations/gru.md``.

The pre-activations are s_n, r̃, z̃ and a_n, in this order: the first three contain R h, and the
last three W x + b. A step uses h in two ways: through R, and directly. It is therefore passed to
:mod:`~numpy_xlstm.kernels.scan` twice, as h and as the memory.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.gru import GRUState
from numpy_xlstm.kernels import scan
from numpy_xlstm.kernels.functions import pointwise, sigmoid, sigmoid_and_slope, tanh, tanh_slope
from numpy_xlstm.numerics import Array


class TwoStates(NamedTuple):
    """State h, as used through R and as used directly."""

    h: Array
    memory: Array


@pointwise
def step(pre: Any, memory: Any, constants: Any) -> Any:
    """Return h after a step twice, as output and as memory."""
    (s_n, r_pre, z_pre, a_n), (h,) = pre, memory
    n = tanh(a_n + sigmoid(r_pre) * s_n)  # [gru.5] [gru.6]
    h = sigmoid(-z_pre) * n + sigmoid(z_pre) * h  # [gru.4] [gru.7]
    return h, h


@pointwise
def derivatives(pre: Any, before: Any, after: Any, constants: Any) -> Any:
    """Return the derivatives of h with respect to ñ and z̃, of ñ with respect to r̃, and r and z."""
    (s_n, r_pre, z_pre, a_n), (h_prev,) = pre, before
    r, r_slope = sigmoid_and_slope(r_pre)
    z, z_slope = sigmoid_and_slope(z_pre)
    n_pre = a_n + r * s_n
    by_n, by_z = sigmoid(-z_pre) * tanh_slope(n_pre), (h_prev - tanh(n_pre)) * z_slope
    return by_n, by_z, s_n * r_slope, r, z


@pointwise
def step_backward(d: Any, factors: Any) -> Any:
    """Return the gradients of the pre-activations, and of h₋ without the term through R."""
    (dh, dmemory), (by_n, by_z, n_by_r, r, z) = d, factors
    dh = dh + dmemory
    dn, dz = dh * by_n, dh * by_z  # [gru.8] [gru.9]
    dr = dn * n_by_r  # [gru.10]
    return r * dn, dr, dz, dn, z * dh  # [gru.12] [gru.14]


CELL = scan.Recurrence(
    step, derivatives, step_backward, TwoStates, num_pre=4, num_recurrent=3, num_inputs=3
)


def n_first(array: Array, axis: int = 0) -> Array:
    """Return rows in the order n, r, z of the kernel, from the order r, z, n of the parameters."""
    return np.roll(array, array.shape[axis] // 3, axis)


def n_last(array: Array, axis: int = 0) -> Array:
    """Return rows in the order r, z, n; the inverse of :func:`n_first`."""
    return np.roll(array, -(array.shape[axis] // 3), axis)


def forward(
    Wx: Array, params: Mapping[str, Array], state: GRUState, lengths: Array | None
) -> tuple[Array, GRUState, scan.ScanCache]:
    """Run the kernel, with W x + b in the last 3·H columns of Wx (B, T, 4·H)."""
    H = Wx.shape[-1] // 4
    b_r_z, s_n = np.split(params["b_h"], [2 * H])
    Wx[..., H : 3 * H] += b_r_z  # [gru.3]
    Wx[..., :H] = s_n
    R = n_first(params["R"])
    y, after, cache = CELL.forward(Wx, {"R": R}, TwoStates(state.h, state.h), lengths)
    return y, GRUState(after.h), cache


def backward(
    dy: Array, cache: scan.ScanCache, dstate: GRUState
) -> tuple[Array, GRUState, dict[str, Array]]:
    """Run :meth:`scan.Recurrence.backward`, and add the gradient of b_h."""
    dlast = TwoStates(dstate.h, np.zeros_like(dstate.h))
    dpre, dstate0, grads = CELL.backward(dy, cache, dlast)
    H = dpre.shape[-1] // 4
    dR = n_last(grads["R"], axis=1)
    db_h = n_last(dpre[..., : 3 * H].sum(axis=(0, 1)))  # [gru.17]
    dstate0 = GRUState(dstate0.h + dstate0.memory)  # [gru.14]
    return dpre[..., H:], dstate0, {"R": dR, "b_h": db_h}  # [gru.11]
