"""mLSTM: one step, forward and backward, line by line as in ``docs/derivations/mlstm.md``."""

from __future__ import annotations  # the state is defined below the cell

from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import (
    GATE_KINDS,
    axes_of_heads,
    checked_sizes,
    log_gate,
    log_gate_slope,
    root,
    underflows,
)
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import (
    Array,
    checked_batch_size,
    checked_choice,
    checked_divides,
    checked_eps,
    checked_positive,
)
from numpy_xlstm.numerics.activations import clip, maximum, modulus, sigmoid, sigmoid_slope
from numpy_xlstm.numerics.memory import check_fits
from numpy_xlstm.validation import checked_step, checked_step_backward

EPS = 1e-6
"""ε in the denominator of h, as in xLSTM Large."""

AXES = {
    **dict.fromkeys(("W_q", "W_k"), "(head={num_heads} key) input"),
    **dict.fromkeys(("W_v", "W_o"), "(head={num_heads} value) input"),
    **dict.fromkeys(("W_i", "W_f"), "head input"),
    **dict.fromkeys(("b_q", "b_k"), "(head={num_heads} key)"),
    **dict.fromkeys(("b_v", "b_o"), "(head={num_heads} value)"),
    **dict.fromkeys(("b_i", "b_f"), "head"),
}
"""Patterns for ``tensor_axes``, from which :func:`~numpy_xlstm.gradcheck` names entries."""

mLSTMCache = namedtuple("mLSTMCache", "cell x state q k v pre log_i A i f o C n m qn den h_tilde")
"""The cell, and residuals of one step: x (B, D), the state before it, (ĩ, f̃, õ), o (B, H), the
rest by head, with A = log f + m₋, the log of the weight of the past."""


class mLSTMCell(Module):
    """One step of an mLSTM, stabilised.

    ::

        q = W_q x + b_q;  k = W_k x/√DK + b_k;  v = W_v x + b_v    (xLSTM paper, Eqs 22–24)
        ĩ = W_i x + b_i;  f̃ = W_f x + b_f;  o = σ(W_o x + b_o)    (Eqs 25–27)
        m = max(log f + m₋, log i);  i = exp(log i − m);  f = exp(log f + m₋ − m)
        C = f C₋ + i k vᵀ;  n = f n₋ + i k                          (Eqs 19, 20)
        h = o ∘ Cᵀq / (max(|q·n|, e^−m) + eps)                      (Eq 21)

    for each head, with log f = log σ(f̃) or f̃, and log i = ĩ. C is the transpose of the paper's.
    With a sigmoid input gate (log i = log σ(ĩ)), this is the mLSTMsig of the TFLA paper (arXiv
    2503.14376): there are no n, m and eps, and the denominator is 1.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H = NH·DV of h.
    num_heads : int, default 1
        Number NH of heads; must divide ``hidden_size``.
    forget_gate : {"sigmoid", "exp"}
        Activation of the forget gate.
    qk_dim : int, optional
        Width NH·DK of all queries, and of all keys; ``hidden_size`` if omitted.
    input_gate : {"exp", "sigmoid"}
        Activation of the input gate.
    eps : float, default 1e-6
        Number added to the denominator; 0 in the paper.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``W_q``, ``W_k`` (NH·DK, D), ``W_v``, ``W_o`` (H, D), ``W_i``, ``W_f`` (NH, D), ``b_q`` …
        Initial values: the first four are normal with variance 2/(5D), b_i is normal with standard
        deviation 0.1, b_f of a sigmoid gate rises from 3 to 6 over the heads, the rest is 0.

    Notes
    -----
    An empty head has m = −inf, so that its first step has m = log i and i = 1. At a tie, the
    maximum in m passes its cotangent to log f + m₋, and the maximum in the denominator to q·n.
    With a sigmoid input gate nothing bounds f = e^A of an exponential forget gate. While C₋ = 0, an
    f that would overflow is replaced by 0, because inf · 0 is NaN.

    Examples
    --------
    >>> cell = mLSTMCell(3, 8, num_heads=2, qk_dim=4, rng=np.random.default_rng(0))
    >>> state, outputs = cell.init_state(5), []
    >>> for x in np.ones((7, 5, 3)):  # 7 steps
    ...     h, state, cache = cell.forward(x, state)
    ...     outputs.append(h)
    >>> h.shape, state.C.shape, state.n.shape, state.m.shape
    ((5, 8), (5, 2, 2, 4), (5, 2, 2), (5, 2))
    """

    @checked_step
    def forward(self, x: Array, state: Any = None) -> tuple[Array, mLSTMState, mLSTMCache]:
        """Take one step with x (B, D); return h (B, H), the state after the step and the cache."""
        # with a sigmoid input gate, n and m are 0 at every step, and the denominator is 1
        C_prev, n_prev, m_prev = state if self.normalised else (state.C, 0, 0)
        p, root_DK = self.params, root(C_prev.shape[2], x)
        heads = len(x), self.num_heads, -1  # the shape of q, k and v
        q = (x @ p["W_q"].T + p["b_q"]).reshape(heads)  # [mlstm.1]
        v = (x @ p["W_v"].T + p["b_v"]).reshape(heads)  # [mlstm.2]
        k = (x @ p["W_k"].T / root_DK + p["b_k"]).reshape(heads)  # [mlstm.3]
        i_pre, f_pre, o_pre = (x @ p[f"W_{g}"].T + p[f"b_{g}"] for g in "ifo")  # [mlstm.4]
        pre = i_pre, f_pre, o_pre
        o = sigmoid(o_pre)  # [mlstm.5]
        log_i = log_gate(i_pre, self.input_gate)  # [mlstm.6]
        log_f = log_gate(f_pre, self.forget_gate)
        A = log_f + m_prev  # [stab.3]
        if not self.normalised:  # while C₋ is 0, f = e^A must not overflow: inf · 0 is NaN
            empty = ~C_prev.any(axis=(-2, -1))
            A = np.where(empty & underflows(-A), -np.inf, A)  # [stab.4]
        m = maximum(A, log_i) if self.normalised else np.zeros_like(A)  # [stab.5]
        i = np.exp(log_i - m)  # [stab.6]
        f = np.exp(A - m)  # [stab.7]
        w = i[..., None] * k  # [mlstm.7]
        C = f[..., None, None] * C_prev + w[..., None] * v[..., None, :]  # [mlstm.8]
        n = f[..., None] * n_prev + w if self.normalised else np.zeros_like(w)  # [mlstm.9]
        s = np.einsum("bhkv,bhk->bhv", C, q)  # [mlstm.10]
        qn = np.einsum("bhk,bhk->bh", q, n)  # [mlstm.11]
        den = maximum(modulus(qn), np.exp(-clip(m))) + self.eps  # [mlstm.12]
        h_tilde = s / den[..., None]  # [mlstm.13]
        h = o * h_tilde.reshape(o.shape)  # [mlstm.14]
        after = mLSTMState(C, n, m) if self.normalised else mLSTMState(C, None, None)
        kept = self, x, state, q, k, v, pre, log_i, A, i, f, o, C, n, m, qn, den, h_tilde
        return h, after, mLSTMCache(*kept)

    @checked_step_backward
    def backward(
        self, dh: Array, cache: mLSTMCache, dstate: Any = None
    ) -> tuple[Array, mLSTMState, Grads]:
        """Return the gradients of x, of the state before the step and of the parameters."""
        _, x, state, q, k, v, pre, log_i, A, i, f, o, C, n, m, qn, den, h_tilde = cache
        i_pre, f_pre, o_pre = pre
        C_prev, n_prev, _ = state if self.normalised else (state.C, n, 0)  # n is 0
        dC_next, dn_next, dm_next = dstate if self.normalised else (dstate.C, 0, 0)
        do_pre = dh * h_tilde.reshape(o.shape) * sigmoid_slope(o_pre)  # [mlstm.15]
        dh_tilde = (dh * o).reshape(h_tilde.shape)  # [mlstm.16]
        q_bar = q / den[..., None]  # [mlstm.17]
        S = (dh_tilde * h_tilde).sum(axis=-1)  # [mlstm.18]
        floor = np.exp(-clip(m))
        wins = modulus(qn).real >= floor.real
        dqn = -np.sign(qn.real) * S / np.where(wins, den, np.inf)  # [mlstm.19]
        dm = dm_next + np.where(wins | (clip(m) != m), 0, S * (floor / den))  # [mlstm.20]
        dC = dC_next + q_bar[..., None] * dh_tilde[..., None, :]  # [mlstm.21]
        dn = dn_next + dqn[..., None] * q  # [mlstm.22]
        read = np.einsum("bhkv,bhv->bhk", C, dh_tilde)
        dq = read / den[..., None] + dqn[..., None] * n  # [mlstm.23]
        dw = np.einsum("bhkv,bhv->bhk", dC, v) + dn  # [mlstm.24]
        dk = i[..., None] * dw  # [mlstm.25]
        dv = i[..., None] * np.einsum("bhkv,bhk->bhv", dC, k)  # [mlstm.26]
        di = (k * dw).sum(axis=-1)  # [mlstm.27]
        df = (C_prev * dC).sum(axis=(-2, -1)) + (n_prev * dn).sum(axis=-1)  # [mlstm.28]
        if self.normalised:
            past = A.real >= log_i.real  # m is A, and f is 1; else m is log i, and i is 1
            dlog_i = np.where(past, i * di, dm - f * df)  # [stab.8]
            dA = np.where(past, dm - i * di, f * df)  # [stab.9]
        else:  # there is no m
            dlog_i, dA = i * di, f * df
        di_pre = dlog_i * log_gate_slope(i_pre, self.input_gate)  # [mlstm.29]
        df_pre = dA * log_gate_slope(f_pre, self.forget_gate)  # [mlstm.30]
        dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA  # [mlstm.31]
        dx, grads = np.zeros_like(x), {}
        for g, dg in zip("qkvifo", (dq, dk, dv, di_pre, df_pre, do_pre), strict=True):
            dg = dg.reshape(len(x), -1)
            grads[f"b_{g}"] = dg.sum(axis=0)  # [mlstm.32]
            dg = dg / root(q.shape[-1], x) if g == "k" else dg
            grads[f"W_{g}"] = dg.T @ x  # [mlstm.33]
            dx = dx + dg @ self.params[f"W_{g}"]  # [mlstm.34]
        if not self.normalised:
            dn_prev = dm_prev = None
        return dx, mLSTMState(dC_prev, dn_prev, dm_prev), grads

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_heads: int = 1,
        qk_dim: int | None = None,
        forget_gate: str = "sigmoid",
        input_gate: str = "exp",
        eps: float = EPS,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        D, H, dtype, rng = checked_sizes(input_size, hidden_size, dtype, rng)
        NH = checked_divides("num_heads", num_heads, "hidden_size", H)
        self.input_size, self.hidden_size, self.num_heads = D, H, NH
        self.qk_dim = QK = H if qk_dim is None else checked_positive("qk_dim", qk_dim)
        checked_divides("num_heads", NH, "qk_dim", QK)
        self.forget_gate = checked_choice("forget_gate", forget_gate, GATE_KINDS)
        self.normalised = checked_choice("input_gate", input_gate, GATE_KINDS) == "exp"
        self.input_gate, self.eps = input_gate, checked_eps(eps) if self.normalised else 0.0
        rows = {"q": QK, "k": QK, "v": H, "i": NH, "f": NH, "o": H}
        std = dict.fromkeys(rows, float(np.sqrt(2 / (5 * D)))) | {"i": 0.0, "f": 0.0}
        check_fits([(sum(rows.values()), D)], dtype, rng)
        start = {f"W_{g}": rng.normal(0, std[g], (rows[g], D)) for g in rows}
        start |= {f"b_{g}": np.zeros(rows[g]) for g in rows} | {"b_i": rng.normal(0, 0.1, NH)}
        start["b_f"] += np.linspace(*GATE_KINDS[forget_gate].bias, NH)
        self.params = {name: array.astype(dtype, copy=False) for name, array in start.items()}

    def init_state(self, batch_size: int) -> mLSTMState:
        """Return the empty state: C = n = 0, m = −inf; n = m = None with a sigmoid input gate."""
        NH = self.num_heads
        shape = batch_size, NH, self.qk_dim // NH, self.hidden_size // NH
        return empty_memory(shape, self.dtype, self.input_gate)

    Cache = mLSTMCache  # checked_step_backward refuses others
    tensor_axes = axes_of_heads(AXES)


class mLSTMState(NamedTuple):
    """State of an mLSTM, or the cotangent of one. With a sigmoid input gate, n and m are None.

    Parameters
    ----------
    C : np.ndarray
        Memory, keys × values, shape (B, NH, DK, DV); divided by e^m, if there is an m.
    n, m : np.ndarray or None
        Normaliser state (B, NH, DK), divided by e^m, and stabiliser (B, NH). Both are None with a
        sigmoid input gate. Where m is −inf, the memory is empty, whatever C and n are.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mLSTMCell
    >>> cell = mLSTMCell(3, 8, num_heads=2, rng=np.random.default_rng(0))
    >>> [array.shape for array in cell.init_state(5)]
    [(5, 2, 4, 4), (5, 2, 4), (5, 2)]
    """

    C: Array  # matrix memory, keys × values, divided by e^m: (B, NH, DK, DV)
    n: Array | None  # normaliser state, divided by e^m: (B, NH, DK)
    m: Array | None  # stabiliser, (B, NH); −inf in the empty state


def empty_memory(shape: tuple[int, ...], dtype: Any, input_gate: str = "exp") -> mLSTMState:
    """Return the empty state with a C of shape (B, NH, DK, DV)."""
    checked_batch_size(shape[0])
    C = np.zeros(shape, dtype)
    if input_gate == "sigmoid":
        return mLSTMState(C, None, None)
    return mLSTMState(C, np.zeros_like(C[..., 0]), np.full_like(C[..., 0, 0], -np.inf))
