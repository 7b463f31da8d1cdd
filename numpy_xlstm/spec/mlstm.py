"""mLSTM: a matrix C, written by k vᵀ and read by q, with the gates of an sLSTM; h never comes back.

One step, forward and backward, line by line as in ``docs/derivations/mlstm.md``.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.door import enter, enter_backward
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import (
    Array,
    check_choice,
    check_divides,
    check_eps,
    check_positive,
    clip,
    maximum,
    modulus,
    sigmoid,
    sigmoid_slope,
)
from numpy_xlstm.spec.gates import KINDS, check_sizes, log_gate, log_gate_slope


class mLSTMState(NamedTuple):
    """State of an mLSTM, or the cotangent of one.

    (C, n, m) and (C·e^a, n·e^a, m − a) are the same memory: m is a gauge. With a sigmoid input gate
    there is nothing to normalise or to stabilise, and n and m are None.
    """

    C: Array
    """Matrix memory, keys × values, divided by e^m: (B, NH, DK, DV)."""
    n: Array | None
    """Normaliser state, divided by e^m: (B, NH, DK)."""
    m: Array | None
    """Stabiliser, (B, NH); −inf in the empty state."""


class mLSTMCache(NamedTuple):
    """What one step keeps for its backward: every symbol of it, by head."""

    x: Array
    state: mLSTMState
    """Before the step."""
    q: Array
    k: Array
    v: Array
    pre: list[Array]
    """ĩ, f̃ and õ."""
    log_i: Array
    A: Array
    """log f + m₋: the exponent of what is left of the past."""
    i: Array
    f: Array
    o: Array
    C: Array
    n: Array
    m: Array
    qn: Array
    den: Array
    h_tilde: Array


class mLSTMCell(Module):
    """One step of an mLSTM, stabilised.

    ::

        q = W_q x + b_q;  k = W_k x/√DK + b_k;  v = W_v x + b_v    (xLSTM paper, Eqs 22–24)
        ĩ = W_i x + b_i;  f̃ = W_f x + b_f;  o = σ(W_o x + b_o)    (Eqs 25–27)
        m = max(log f + m₋, ĩ);  i = exp(ĩ − m);  f = exp(log f + m₋ − m)
        C = f C₋ + i k vᵀ;  n = f n₋ + i k                          (Eqs 19, 20)
        h = o ∘ Cᵀq / (max(|q·n|, e^−m) + eps)                      (Eq 21)

    per head, with log f = log σ(f̃) or f̃. With a sigmoid input gate (mLSTMsig of the TFLA paper)
    i = σ(ĩ), there is no n and no m, and h = o ∘ Cᵀq.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h: NH heads of DV = H / NH.
    num_heads : int, default 1
        Number NH of heads; must divide ``hidden_size`` and ``qk_dim``.
    qk_dim : int, optional
        Width of all queries, and of all keys: NH heads of DK; ``hidden_size`` if omitted.
    forget_gate : {"sigmoid", "exp"}
        What the forget gate is.
    input_gate : {"exp", "sigmoid"}
        What the input gate is.
    eps : float, default 1e-6
        Added to the denominator; 0 is the paper.
    dtype : dtype, default float64
        Of the parameters, and of all that the cell takes and returns.
    rng : np.random.Generator, optional
        Source of the initial parameters; a fresh one if omitted.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``W_q``, ``W_k`` (NH·DK, D), ``W_v``, ``W_o`` (H, D), ``W_i``, ``W_f`` (NH, D), and ``b_q``
        … ``b_o``. W_q, W_k, W_v, W_o start normal with variance 2/(5D), b_i normal with deviation
        0.1, a sigmoid forget gate's b_f from 3 to 6 over heads, and the rest at 0.

    Notes
    -----
    C is the transpose of the paper's. Ties and the empty state are as in :class:`sLSTMCell`; at
    |q·n| = e^−m the derivative is that of |q·n|.

    Examples
    --------
    >>> cell = mLSTMCell(3, 8, num_heads=2, qk_dim=4, rng=np.random.default_rng(0))
    >>> h, state, cache = cell.forward(np.ones((5, 3)))
    >>> h.shape, state.C.shape, state.n.shape, state.m.shape
    ((5, 8), (5, 2, 2, 4), (5, 2, 2), (5, 2))
    """

    Cache = mLSTMCache

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        *,
        qk_dim: int | None = None,
        forget_gate: str = "sigmoid",
        input_gate: str = "exp",
        eps: float = 1e-6,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        D, H, NH, dtype, rng = check_sizes(input_size, hidden_size, num_heads, dtype, rng)
        self.input_size, self.hidden_size, self.num_heads = D, H, NH
        self.qk_dim = QK = H if qk_dim is None else check_positive("qk_dim", qk_dim)
        check_divides("num_heads", num_heads, "qk_dim", QK)
        self.forget_gate = check_choice("forget_gate", forget_gate, KINDS)
        self.input_gate = check_choice("input_gate", input_gate, KINDS)
        self.eps, self.root_DK = check_eps(eps), np.sqrt(dtype.type(QK // NH).real)
        std = np.sqrt(2 / (5 * D))
        W = {g: rng.normal(0, std, (n, D)) for g, n in zip("qkvo", (QK, QK, H, H), strict=True)}
        W |= {"i": np.zeros((NH, D)), "f": np.zeros((NH, D))}
        b = {g: np.zeros(len(weight)) for g, weight in W.items()} | {"i": rng.normal(0, 0.1, NH)}
        if forget_gate == "sigmoid":
            b["f"] = np.linspace(3, 6, NH)
        start = {f"W_{g}": W[g] for g in "qkvifo"} | {f"b_{g}": b[g] for g in "qkvifo"}
        self.params = {name: array.astype(dtype) for name, array in start.items()}

    @property
    def normalised(self) -> bool:
        """Whether there are n and m: with an exponential input gate."""
        return self.input_gate == "exp"

    def init_state(self, batch_size: int) -> mLSTMState:
        """Return the empty state: C = n = 0 and m = −inf."""
        B, NH = check_positive("batch_size", batch_size), self.num_heads
        C = np.zeros((B, NH, self.qk_dim // NH, self.hidden_size // NH), self.dtype)
        if not self.normalised:
            return mLSTMState(C, None, None)
        return mLSTMState(C, np.zeros(C.shape[:3], self.dtype), np.full((B, NH), -np.inf, self.dtype))

    def forward(self, x: Array, state: Any = None) -> tuple[Array, mLSTMState, mLSTMCache]:
        """Take one step: x (B, D), and the state before it, to h (B, H) and the state after it."""
        state = enter(self, x, state)
        C_prev, n_prev, m_prev = state if self.normalised else (state.C, 0, 0)
        p, heads = self.params, (*C_prev.shape[:2], -1)
        q = (x @ p["W_q"].T + p["b_q"]).reshape(heads)  # [mlstm.1]
        v = (x @ p["W_v"].T + p["b_v"]).reshape(heads)  # [mlstm.2]
        k = (x @ p["W_k"].T / self.root_DK + p["b_k"]).reshape(heads)  # [mlstm.3]
        i_pre, f_pre, o_pre = pre = [x @ p[f"W_{g}"].T + p[f"b_{g}"] for g in "ifo"]  # [mlstm.4]
        o = sigmoid(o_pre)  # [mlstm.5]
        log_i = log_gate(i_pre, self.input_gate)  # [mlstm.20]
        A = log_gate(f_pre, self.forget_gate) + m_prev  # [stab.10]
        m = maximum(A, log_i) if self.normalised else np.zeros_like(A)  # [stab.3]
        i = np.exp(log_i - m)  # [stab.4]
        f = np.exp(A - m)  # [stab.5]
        C = f[..., None, None] * C_prev + (i[..., None] * k)[..., None] * v[..., None, :]  # [mlstm.6]
        n = f[..., None] * n_prev + i[..., None] * k  # [mlstm.7]
        s = np.einsum("bhkv,bhk->bhv", C, q)  # [mlstm.8]
        qn = np.einsum("bhk,bhk->bh", q, n)
        den = self.denominator(qn, m)  # [mlstm.9]
        h_tilde = s / den[..., None]  # [mlstm.10]
        h = o * h_tilde.reshape(o.shape)  # [mlstm.21]
        after = mLSTMState(C, n, m) if self.normalised else mLSTMState(C, None, None)
        cache = mLSTMCache(x, state, q, k, v, pre, log_i, A, i, f, o, C, n, m, qn, den, h_tilde)
        return h, after, cache

    def backward(
        self, dh: Array, cache: mLSTMCache, dstate: Any = None
    ) -> tuple[Array, mLSTMState, Grads]:
        """Take one step back: gradients of x, of the state before it and of the parameters."""
        dstate = enter_backward(self, dh, cache, dstate)
        x, state, q, k, v, pre, log_i, A, i, f, o, C, n, m, qn, den, h_tilde = cache
        C_prev, n_prev, _ = state if self.normalised else (state.C, 0 * n, 0)
        dC_next, dn_next, dm_next = dstate if self.normalised else (dstate.C, 0, 0)
        do_pre = dh * h_tilde.reshape(o.shape) * sigmoid_slope(pre[2])  # [mlstm.25]
        dh_tilde = (dh * o).reshape(h_tilde.shape)  # [mlstm.26]
        ds = dh_tilde / den[..., None]  # [mlstm.11]
        dqn, dm_den = self.denominator_backward((dh_tilde * h_tilde).sum(-1), qn, m, den)
        dC = dC_next + q[..., None] * ds[..., None, :]  # [mlstm.13]
        dn = dn_next + dqn[..., None] * q  # [mlstm.14]
        dq = np.einsum("bhkv,bhv->bhk", C, ds) + dqn[..., None] * n  # [mlstm.15]
        dik = np.einsum("bhkv,bhv->bhk", dC, v) + dn  # [mlstm.27]
        dk = i[..., None] * dik  # [mlstm.16]
        dv = i[..., None] * np.einsum("bhkv,bhk->bhv", dC, k)  # [mlstm.17]
        di = (k * dik).sum(-1)  # [mlstm.18]
        df = (C_prev * dC).sum((-2, -1)) + (n_prev * dn).sum(-1)  # [mlstm.19]
        dm = dm_next + dm_den - i * di - f * df if self.normalised else 0 * m  # [stab.11]
        dlog_i = i * di + np.where(A.real < log_i.real, dm, 0)  # [stab.12]
        dA = f * df + np.where(A.real >= log_i.real, dm, 0)  # [stab.13]
        di_pre = dlog_i * log_gate_slope(pre[0], self.input_gate)  # [mlstm.28]
        df_pre = dA * log_gate_slope(pre[1], self.forget_gate)  # [mlstm.29]
        dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA  # [mlstm.30]
        dmaps = {"q": dq, "k": dk, "v": dv, "i": di_pre, "f": df_pre, "o": do_pre}
        dx, grads = self.maps_backward(x, dmaps)
        if not self.normalised:
            return dx, mLSTMState(dC_prev, None, None), grads
        return dx, mLSTMState(dC_prev, dn_prev, dm_prev), grads

    def denominator(self, qn: Array, m: Array) -> Array:
        """Form max(|q·n|, e^−m) + eps, which is 1 where nothing is normalised."""
        if not self.normalised:
            return np.ones_like(qn)
        return maximum(modulus(qn), np.exp(-clip(m))) + self.eps

    def denominator_backward(
        self, S: Array, qn: Array, m: Array, den: Array
    ) -> tuple[Array, Array]:
        """Gradients of q·n and of m, from S = ⟨δh̃, h̃⟩; δden = −S / den."""
        if not self.normalised:
            return 0 * S, 0 * S
        floor = np.exp(-clip(m))
        wins = modulus(qn).real >= floor.real
        dqn = -np.sign(qn.real) * S / np.where(wins, den, np.inf)  # [mlstm.12]
        dm = np.where(wins | (clip(m) != m), 0, S * (floor / den))  # [mlstm.31]
        return dqn, dm

    def maps_backward(self, x: Array, dmaps: dict[str, Array]) -> tuple[Array, Grads]:
        """Gradients of x and of the parameters, from those of the six maps of x."""
        dx, dW, db = np.zeros_like(x), {}, {}
        for g, dmap in dmaps.items():
            dg = dmap.reshape(len(x), -1)
            db[f"b_{g}"] = dg.sum(axis=0)  # [mlstm.24]
            dg = dg / self.root_DK if g == "k" else dg
            dW[f"W_{g}"] = dg.T @ x  # [mlstm.23]
            dx = dx + dg @ self.params[f"W_{g}"]  # [mlstm.22]
        return dx, dW | db
