"""LSTM: one step, forward and backward, line by line as in ``docs/derivations/lstm.md``."""

from __future__ import annotations  # the state is defined below the cell

from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import (
    checked_sizes,
    empty_state,
    gate_axes,
    gate_rows,
    pre_activations,
    pre_activations_backward,
)
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, sigmoid, sigmoid_slope, tanh_slope
from numpy_xlstm.numerics.initial import drawn_uniformly
from numpy_xlstm.validation import checked_step, checked_step_backward

LSTMCache = namedtuple("LSTMCache", "cell x state pre i f z o c")
"""The cell, and residuals of one step: x (B, D), the state before it, (ĩ, f̃, z̃, õ), and arrays
(B, H)."""


class LSTMCell(Module):
    """One step of an LSTM.

    ::

        g̃ = W_g x + R_g h₋ + b_g     for g = i, f, z, o     (xLSTM paper, Eqs 30–33)
        i, f, o = σ(ĩ), σ(f̃), σ(õ);  z = tanh(z̃)
        c = f ∘ c₋ + i ∘ z                                   (Eq 28)
        h = o ∘ tanh(c)                                      (Eq 29)

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h and c.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``W`` (4·H, D), ``R`` (4·H, H) and ``b`` (4·H,), rows in the order i, f, z, o; see
        :func:`gate_rows`. Initial values are uniform in ±1/√H, as in each array of PyTorch, except
        a forget bias of 1. ``b`` replaces the sum of PyTorch's two biases.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> cell = LSTMCell(3, 4, rng=rng)
    >>> state, outputs = cell.init_state(2), []
    >>> for x in rng.standard_normal((7, 2, 3)):  # 7 steps
    ...     h, state, cache = cell.forward(x, state)
    ...     outputs.append(h)
    >>> dx, dstate0, grads = cell.backward(rng.standard_normal((2, 4)), cache)
    >>> dx.shape, dstate0.c.shape, grads["W"].shape
    ((2, 3), (2, 4), (16, 3))
    """

    @checked_step
    def forward(self, x: Array, state: Any = None) -> tuple[Array, LSTMState, LSTMCache]:
        """Take one step with x (B, D); return h (B, H), the state after the step and the cache."""
        h_prev, c_prev = state
        pre = pre_activations(x, h_prev, **self.params)
        i_pre, f_pre, z_pre, o_pre = pre
        i, f, o = sigmoid(i_pre), sigmoid(f_pre), sigmoid(o_pre)  # [lstm.1]
        z = np.tanh(z_pre)  # [lstm.2]
        c = f * c_prev + i * z  # [lstm.3]
        h = o * np.tanh(c)  # [lstm.4]
        return h, LSTMState(h, c), LSTMCache(self, x, state, pre, i, f, z, o, c)

    @checked_step_backward
    def backward(
        self, dh: Array, cache: LSTMCache, dstate: Any = None
    ) -> tuple[Array, LSTMState, Grads]:
        """Return the gradients of x, of the state before the step and of the parameters."""
        dh_next, dc_next = dstate
        _, x, (h_prev, c_prev), (i_pre, f_pre, z_pre, o_pre), i, f, z, o, c = cache
        dh = dh + dh_next  # [rec.2]
        do_pre = dh * np.tanh(c) * sigmoid_slope(o_pre)  # [lstm.5]
        dc = dc_next + dh * o * tanh_slope(c)  # [lstm.6]
        dz_pre = dc * i * tanh_slope(z_pre)  # [lstm.7]
        di_pre = dc * z * sigmoid_slope(i_pre)  # [lstm.8]
        df_pre = dc * c_prev * sigmoid_slope(f_pre)  # [lstm.9]
        dc_prev = f * dc  # [lstm.10]
        dpre = di_pre, df_pre, dz_pre, do_pre
        dx, dh_prev, grads = pre_activations_backward(dpre, x, h_prev, **self.params)
        return dx, LSTMState(dh_prev, dc_prev), grads

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
        shapes = {"W": (4 * H, D), "R": (4 * H, H), "b": (4 * H,)}
        self.params = params = drawn_uniformly(shapes, H**-0.5, dtype, rng)
        gate_rows(params["b"], "f")[...] = 1

    def init_state(self, batch_size: int) -> LSTMState:
        """Return the empty state: h = c = 0."""
        return empty_state(LSTMState, batch_size, self.hidden_size, self.dtype)

    Cache = LSTMCache  # checked_step_backward refuses others
    tensor_axes = gate_axes()


class LSTMState(NamedTuple):
    """State of an LSTM, or the cotangent of one.

    Parameters
    ----------
    h, c : np.ndarray
        Hidden state and cell state, shape (B, H) each.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import LSTMCell, LSTMState
    >>> cell = LSTMCell(3, 4, rng=np.random.default_rng(0))
    >>> before = LSTMState(h=np.zeros((2, 4)), c=np.ones((2, 4)))
    >>> h, state, cache = cell.forward(np.ones((2, 3)), before)
    >>> state.c.shape, state.h is h
    ((2, 4), True)
    """

    h: Array  # hidden state, (B, H)
    c: Array  # cell state, (B, H)
