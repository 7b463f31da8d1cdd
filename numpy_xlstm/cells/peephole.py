"""Peephole LSTM: one step, forward and backward, as in ``docs/derivations/peephole.md``."""

from collections import namedtuple
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import checked_sizes, empty_state, gate_axes, gate_rows
from numpy_xlstm.cells.lstm import LSTMState
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, sigmoid, sigmoid_slope, tanh_slope
from numpy_xlstm.numerics.initial import drawn_uniformly
from numpy_xlstm.validation import checked_step, checked_step_backward

PeepholeCache = namedtuple("PeepholeCache", "cell x state pre i f z o c")
"""The cell, and residuals of one step: x (B, D), the state before it, (ĩ, f̃, z̃, õ), and arrays
(B, H)."""


class PeepholeLSTMCell(Module):
    """One step of a peephole LSTM, in the diagonal form of Graves and of ONNX.

    ::

        a_g = W_g x + R_g h₋ + b_g     for g = i, f, z, o
        i, f = σ(a_i + p_i ∘ c₋), σ(a_f + p_f ∘ c₋);  z = tanh(a_z)
        c = f ∘ c₋ + i ∘ z
        o = σ(a_o + p_o ∘ c);  h = o ∘ tanh(c)

    (Gers & Schmidhuber, Recurrent nets that time and count, IJCNN 2000; Graves, arXiv 1308.0850,
    Eqs 7–11.) With p = 0 this is an LSTM.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``W`` (4·H, D), ``R`` (4·H, H) and ``b`` (4·H,), rows in the order i, f, z, o, and ``P``
        (3·H,), in the order i, f, o. All are uniform in ±1/√H, except a forget bias of 1.

    Examples
    --------
    >>> cell = PeepholeLSTMCell(3, 4, rng=np.random.default_rng(0))
    >>> state, outputs = cell.init_state(2), []
    >>> for x in np.ones((7, 2, 3)):  # 7 steps
    ...     h, state, cache = cell.forward(x, state)
    ...     outputs.append(h)
    >>> state._fields, cell.params["P"].shape
    (('h', 'c'), (12,))
    """

    @checked_step
    def forward(self, x: Array, state: Any = None) -> tuple[Array, LSTMState, PeepholeCache]:
        """Take one step with x (B, D); return h (B, H), the state after the step and the cache."""
        h_prev, c_prev = state
        W, R, b, P = (self.params[name] for name in "WRbP")
        p_i, p_f, p_o = np.split(P, 3)
        a = x @ W.T + h_prev @ R.T + b  # [peephole.1]
        a_i, a_f, z_pre, a_o = np.split(a, 4, axis=1)
        i_pre, f_pre = a_i + p_i * c_prev, a_f + p_f * c_prev  # [peephole.2]
        i, f, z = sigmoid(i_pre), sigmoid(f_pre), np.tanh(z_pre)  # [peephole.3]
        c = f * c_prev + i * z  # [peephole.4]
        o_pre = a_o + p_o * c  # [peephole.5]
        o = sigmoid(o_pre)  # [peephole.6]
        h = o * np.tanh(c)  # [peephole.7]
        pre = i_pre, f_pre, z_pre, o_pre
        return h, LSTMState(h, c), PeepholeCache(self, x, state, pre, i, f, z, o, c)

    @checked_step_backward
    def backward(
        self, dh: Array, cache: PeepholeCache, dstate: Any = None
    ) -> tuple[Array, LSTMState, Grads]:
        """Return the gradients of x, of the state before the step and of the parameters."""
        dh_next, dc_next = dstate
        _, x, (h_prev, c_prev), (i_pre, f_pre, z_pre, o_pre), i, f, z, o, c = cache
        p_i, p_f, p_o = np.split(self.params["P"], 3)
        dh = dh + dh_next  # [rec.2]
        do_pre = dh * np.tanh(c) * sigmoid_slope(o_pre)  # [peephole.8]
        dc = dc_next + dh * o * tanh_slope(c) + p_o * do_pre  # [peephole.9]
        di_pre = dc * z * sigmoid_slope(i_pre)  # [peephole.10]
        df_pre = dc * c_prev * sigmoid_slope(f_pre)  # [peephole.11]
        dz_pre = dc * i * tanh_slope(z_pre)  # [peephole.12]
        dc_prev = f * dc + p_i * di_pre + p_f * df_pre  # [peephole.13]
        da = np.hstack([di_pre, df_pre, dz_pre, do_pre])  # [peephole.14]
        dx, dh_prev = da @ self.params["W"], da @ self.params["R"]  # [peephole.15]
        dW, dR, db = da.T @ x, da.T @ h_prev, da.sum(axis=0)  # [peephole.16]
        dP = np.hstack([di_pre * c_prev, df_pre * c_prev, do_pre * c]).sum(axis=0)  # [peephole.17]
        return dx, LSTMState(dh_prev, dc_prev), {"W": dW, "R": dR, "b": db, "P": dP}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        D, H, dtype, rng = checked_sizes(input_size, hidden_size, dtype, rng)
        self.input_size, self.hidden_size = D, H
        shapes = {"W": (4 * H, D), "R": (4 * H, H), "b": (4 * H,), "P": (3 * H,)}
        self.params = params = drawn_uniformly(shapes, H**-0.5, dtype, rng)
        gate_rows(params["b"], "f")[...] = 1

    def init_state(self, batch_size: int) -> LSTMState:
        """Return the empty state: h = c = 0."""
        return empty_state(LSTMState, batch_size, self.hidden_size, self.dtype)

    Cache = PeepholeCache  # checked_step_backward refuses others
    tensor_axes: ClassVar[dict[str, str]] = {**gate_axes(), "P": "(gate=ifo unit)"}
