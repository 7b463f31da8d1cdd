"""sLSTM: an LSTM with an exponential input gate, a normaliser n and a stabiliser m.

One step, forward and backward, line by line as in ``docs/derivations/slstm.md``.
"""

from __future__ import annotations  # the state is defined below the cell

from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import (
    GATE_KINDS,
    axes_of_heads,
    checked_sizes,
    empty_state,
    gate_rows,
    log_gate,
    log_gate_slope,
    pre_activations,
    pre_activations_backward,
    underflows,
)
from numpy_xlstm.errors import StateError
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, checked_choice, checked_divides
from numpy_xlstm.numerics.activations import maximum, sigmoid, sigmoid_slope, tanh_slope
from numpy_xlstm.numerics.memory import check_fits
from numpy_xlstm.validation import checked_step, checked_step_backward

AXES = {
    "W": "(gate=ifzo head={num_heads} unit) input",
    "R": "head (gate=ifzo unit) from",
    "b": "(gate=ifzo head={num_heads} unit)",
}
"""Patterns for ``tensor_axes``, from which :func:`~numpy_xlstm.gradcheck` names entries."""

sLSTMCache = namedtuple("sLSTMCache", "cell x state pre A i f z o c n")
"""The cell, and residuals of one step: x (B, D), the state before it, (ĩ, f̃, z̃, õ), and arrays
(B, H), with A = log f + m₋, the log of the weight of the past."""


class sLSTMCell(Module):
    """One step of an sLSTM, stabilised.

    ::

        g̃ = W_g x + R_g h₋ + b_g     for g = i, f, z, o     (xLSTM paper, Eqs 37–40)
        m = max(log f + m₋, ĩ)                               (Eq 15)
        i = exp(ĩ − m);  f = exp(log f + m₋ − m)             (Eqs 16, 17: i′ and f′)
        z = tanh(z̃);  o = σ(õ)
        c = f ∘ c₋ + i ∘ z                                   (Eq 34)
        n = f ∘ n₋ + i                                       (Eq 35)
        h = o ∘ c / n                                        (Eq 36)

    with log f = log σ(f̃) or f̃. R_g is block-diagonal: a head does not see the h of other heads.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h, c, n and m.
    num_heads : int, default 1
        Number NH of heads; must divide ``hidden_size``.
    forget_gate : {"sigmoid", "exp"}
        Activation of the forget gate.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``W`` (4·H, D), ``R`` (NH, 4·DH, DH) and ``b`` (4·H,), gate by gate in the order i, f, z, o;
        in ``R``, within each head. Initial values: W is normal with variance 2/(5D), R is uniform
        in ±1/√DH, and b is 0, except that the bias of a sigmoid forget gate rises from 3 to 6
        within each head.

    Notes
    -----
    An empty entry has m = −inf, so that its first step has m = ĩ and i = 1. At a tie, the
    maximum passes its cotangent to log f + m₋. An entry with n₋ = 0 is empty for any m₋. If its i
    would underflow, the step of this entry is computed with m₋ = −inf.

    Examples
    --------
    >>> cell = sLSTMCell(3, 4, num_heads=2, rng=np.random.default_rng(0))
    >>> state, outputs = cell.init_state(2), []
    >>> for x in np.ones((7, 2, 3)):  # 7 steps
    ...     h, state, cache = cell.forward(x, state)
    ...     outputs.append(h)
    >>> state._fields, cell.params["R"].shape
    (('h', 'c', 'n', 'm'), (2, 8, 2))
    """

    @checked_step
    def forward(self, x: Array, state: Any = None) -> tuple[Array, sLSTMState, sLSTMCache]:
        """Take one step with x (B, D); return h (B, H), the state after the step and the cache."""
        h_prev, c_prev, n_prev, m_prev = state
        pre = pre_activations(x, h_prev, **self.params)
        i_pre, f_pre, z_pre, o_pre = pre
        A = log_gate(f_pre, self.forget_gate) + m_prev  # [stab.3]
        A = np.where((n_prev == 0) & underflows(i_pre - A), -np.inf, A)  # [stab.4]
        m = maximum(A, i_pre)  # [stab.5]
        i = np.exp(i_pre - m)  # [stab.6]
        f = np.exp(A - m)  # [stab.7]
        z = np.tanh(z_pre)  # [slstm.1]
        o = sigmoid(o_pre)  # [slstm.2]
        c = f * c_prev + i * z  # [slstm.3]
        n = f * n_prev + i  # [slstm.4]
        h = o * (c / n)  # [slstm.5]
        return h, sLSTMState(h, c, n, m), sLSTMCache(self, x, state, pre, A, i, f, z, o, c, n)

    @checked_step_backward
    def backward(
        self, dh: Array, cache: sLSTMCache, dstate: Any = None
    ) -> tuple[Array, sLSTMState, Grads]:
        """Return the gradients of x, of the state before the step and of the parameters."""
        dh_next, dc_next, dn_next, dm_next = dstate
        _, x, (h_prev, c_prev, n_prev, _), pre, A, i, f, z, o, c, n = cache
        i_pre, f_pre, z_pre, o_pre = pre
        dh = dh + dh_next  # [rec.2]
        do_pre = dh * (c / n) * sigmoid_slope(o_pre)  # [slstm.6]
        dc = dc_next + dh * o / n  # [slstm.7]
        dn = dn_next - dh * o / n * (c / n)  # [slstm.8]
        dz_pre = dc * i * tanh_slope(z_pre)  # [slstm.9]
        di = dc * z + dn  # [slstm.10]
        df = dc * c_prev + dn * n_prev  # [slstm.11]
        past = A.real >= i_pre.real  # m is A = log f + m₋, and f is 1; else m is ĩ, and i is 1
        di_pre = np.where(past, i * di, dm_next - f * df)  # [stab.8]
        dA = np.where(past, dm_next - i * di, f * df)  # [stab.9]
        df_pre = dA * log_gate_slope(f_pre, self.forget_gate)  # [slstm.12]
        dc_prev = f * dc  # [slstm.13]
        dn_prev = f * dn  # [slstm.14]
        dm_prev = dA  # [stab.10]
        dpre = di_pre, df_pre, dz_pre, do_pre
        dx, dh_prev, grads = pre_activations_backward(dpre, x, h_prev, **self.params)
        return dx, sLSTMState(dh_prev, dc_prev, dn_prev, dm_prev), grads

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_heads: int = 1,
        forget_gate: str = "sigmoid",
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        D, H, dtype, rng = checked_sizes(input_size, hidden_size, dtype, rng)
        NH = checked_divides("num_heads", num_heads, "hidden_size", H)
        self.input_size, self.hidden_size, self.num_heads, DH = D, H, NH, H // NH
        self.forget_gate = checked_choice("forget_gate", forget_gate, GATE_KINDS)
        check_fits([(4 * H, D), (4 * H, DH)], dtype, rng)
        W = rng.normal(0, np.sqrt(2 / (5 * D)), (4 * H, D))
        R = rng.uniform(-(DH**-0.5), DH**-0.5, (NH, 4 * DH, DH))
        b = np.zeros(4 * H)
        gate_rows(b, "f")[...] = np.tile(np.linspace(*GATE_KINDS[forget_gate].bias, DH), NH)
        start = {"W": W, "R": R, "b": b}
        self.params = {name: array.astype(dtype, copy=False) for name, array in start.items()}

    def init_state(self, batch_size: int) -> sLSTMState:
        """Return the empty state: h = c = n = 0 and m = −inf."""
        return empty_state(sLSTMState, batch_size, self.hidden_size, self.dtype)

    Cache = sLSTMCache  # checked_step_backward refuses others
    tensor_axes = axes_of_heads(AXES)


class sLSTMState(NamedTuple):
    """State of an sLSTM, or the cotangent of one; (B, H) each.

    (c, n, m) and (c·e^a, n·e^a, m − a) represent the same memory for any a.

    Parameters
    ----------
    h : np.ndarray
        Hidden state, shape (B, H).
    c, n : np.ndarray
        Cell state and normaliser state, both divided by e^m, shape (B, H).
    m : np.ndarray
        Stabiliser, shape (B, H); −inf in the empty state.

    Examples
    --------
    Subtracting 1 from m and multiplying c and n by e changes no output:

    >>> import numpy as np
    >>> from numpy_xlstm import sLSTMCell, sLSTMState
    >>> cell, x = sLSTMCell(3, 4, rng=np.random.default_rng(0)), np.ones((2, 3))
    >>> _, state, _ = cell.forward(x)
    >>> h, c, n, m = state
    >>> same = sLSTMState(h, c * np.exp(1), n * np.exp(1), m - 1)
    >>> np.allclose(cell.forward(x, state)[0], cell.forward(x, same)[0], rtol=1e-14)
    True
    """

    h: Array  # hidden state
    c: Array  # cell state, divided by e^m
    n: Array  # normaliser state, divided by e^m
    m: Array  # stabiliser; −inf in the empty state

    def check(self) -> None:
        """Raise :class:`StateError` for invalid (c, n); entries with m = −inf are ignored."""
        _, c, n, m = self
        filled = m.real > -np.inf
        if (negative := (n.real < 0) & filled).any():
            least = n[negative].real.min()
            raise StateError(f"state.n: expected numbers of at least 0; got {least}")
        if (alone := (n.real == 0) & (c.real != 0) & filled).any():
            raise StateError(f"state.c: expected 0 where n is 0; got {c[alone][0]}")
