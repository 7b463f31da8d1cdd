"""LSTM with a projection: one step, forward and backward, as in ``docs/derivations/lstmp.md``."""

from collections import namedtuple
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import checked_sizes, empty_state, gate_axes
from numpy_xlstm.cells.lstm import LSTMState
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import (
    Array,
    checked_positive,
    sigmoid,
    sigmoid_slope,
    tanh_slope,
)
from numpy_xlstm.numerics.initial import drawn_uniformly
from numpy_xlstm.validation import checked_step, checked_step_backward

LSTMPCache = namedtuple("LSTMPCache", "cell x state pre i f z o c m")
"""The cell, and residuals of one step: x (B, D), the state before it, (ĩ, f̃, z̃, õ), and arrays
(B, H), with m = o ∘ tanh(c), which W_hr projects."""


class LSTMPCell(Module):
    """One step of an LSTM with a projected output, in the form of ``torch.nn.LSTM``.

    ::

        (ĩ, f̃, z̃, õ) = W x + R h₋ + b
        i, f, o = σ(ĩ), σ(f̃), σ(õ);  z = tanh(z̃)
        c = f ∘ c₋ + i ∘ z
        m = o ∘ tanh(c)
        h = W_hr m

    This is the LSTMP of Sak, Senior and Beaufays 2014 (arXiv 1402.1128), without peepholes and
    without the non-recurrent projection. Their recurrent projection r is h here.

    Parameters
    ----------
    input_size, hidden_size, proj_size : int
        Widths D of x, H of c and P of h.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``W`` (4·H, D), ``R`` (4·H, P), ``b`` (4·H,), rows in the order i, f, z, o, and ``W_hr``
        (P, H), PyTorch's ``weight_hr``. Initial values are uniform in ±1/√H, as in each array of
        PyTorch. ``b`` replaces the sum of PyTorch's two biases.

    Notes
    -----
    The state is an :class:`LSTMState` of h (B, P) and c (B, H).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> cell = LSTMPCell(3, 4, 2, rng=rng)
    >>> state, outputs = cell.init_state(5), []
    >>> for x in rng.standard_normal((7, 5, 3)):  # 7 steps
    ...     h, state, cache = cell.forward(x, state)
    ...     outputs.append(h)
    >>> dx, dstate0, grads = cell.backward(rng.standard_normal((5, 2)), cache)
    >>> state.h.shape, state.c.shape, grads["R"].shape, grads["W_hr"].shape
    ((5, 2), (5, 4), (16, 2), (2, 4))
    """

    @checked_step
    def forward(self, x: Array, state: Any = None) -> tuple[Array, LSTMState, LSTMPCache]:
        """Take one step with x (B, D); return h (B, P), the state after the step and the cache."""
        h_prev, c_prev = state
        p = self.params
        a = x @ p["W"].T + h_prev @ p["R"].T + p["b"]  # [lstmp.1]
        pre = np.split(a, 4, axis=1)
        i_pre, f_pre, z_pre, o_pre = pre
        i, f, o = sigmoid(i_pre), sigmoid(f_pre), sigmoid(o_pre)  # [lstmp.2]
        z = np.tanh(z_pre)  # [lstmp.3]
        c = f * c_prev + i * z  # [lstmp.4]
        m = o * np.tanh(c)  # [lstmp.5]
        h = m @ p["W_hr"].T  # [lstmp.6]
        return h, LSTMState(h, c), LSTMPCache(self, x, state, pre, i, f, z, o, c, m)

    @checked_step_backward
    def backward(
        self, dh: Array, cache: LSTMPCache, dstate: Any = None
    ) -> tuple[Array, LSTMState, Grads]:
        """Return the gradients of x, of the state before the step and of the parameters."""
        dh_next, dc_next = dstate
        _, x, (h_prev, c_prev), (i_pre, f_pre, z_pre, o_pre), i, f, z, o, c, m = cache
        dh = dh + dh_next  # [rec.2]
        dW_hr = dh.T @ m  # [lstmp.7]
        dm = dh @ self.params["W_hr"]  # [lstmp.8]
        do_pre = dm * np.tanh(c) * sigmoid_slope(o_pre)  # [lstmp.9]
        dc = dc_next + dm * o * tanh_slope(c)  # [lstmp.10]
        dz_pre = dc * i * tanh_slope(z_pre)  # [lstmp.11]
        di_pre = dc * z * sigmoid_slope(i_pre)  # [lstmp.12]
        df_pre = dc * c_prev * sigmoid_slope(f_pre)  # [lstmp.13]
        dc_prev = f * dc  # [lstmp.14]
        da = np.hstack([di_pre, df_pre, dz_pre, do_pre])  # [lstmp.15]
        dx = da @ self.params["W"]  # [lstmp.16]
        dh_prev = da @ self.params["R"]  # [lstmp.17]
        dW = da.T @ x  # [lstmp.18]
        dR = da.T @ h_prev  # [lstmp.19]
        db = da.sum(axis=0)  # [lstmp.20]
        return dx, LSTMState(dh_prev, dc_prev), {"W": dW, "R": dR, "b": db, "W_hr": dW_hr}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        proj_size: int,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        D, H, dtype, rng = checked_sizes(input_size, hidden_size, dtype, rng)
        P = checked_positive("proj_size", proj_size)
        self.input_size, self.hidden_size, self.proj_size = D, H, P
        shapes = {"W": (4 * H, D), "R": (4 * H, P), "b": (4 * H,), "W_hr": (P, H)}
        self.params = drawn_uniformly(shapes, H**-0.5, dtype, rng)

    def init_state(self, batch_size: int) -> LSTMState:
        """Return the empty state: h = c = 0."""
        empty = empty_state(LSTMState, batch_size, self.hidden_size, self.dtype)
        return empty._replace(h=np.zeros((batch_size, self.proj_size), self.dtype))

    Cache = LSTMPCache  # checked_step_backward refuses others
    tensor_axes: ClassVar[dict[str, str]] = {**gate_axes(), "W_hr": "unit from"}
