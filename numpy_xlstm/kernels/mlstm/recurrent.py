"""mLSTM step by step: the recurrent form.

The forward keeps the memory at about √T places; the backward recomputes those in between, one
segment at a time. All that is not a matrix is done for many steps at once.
"""

from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.kernels.mlstm.shared import (
    Cache,
    Gradients,
    backward,
    carried,
    check_inputs,
    run,
)
from numpy_xlstm.numerics import Array, dot, maximum
from numpy_xlstm.spec.mlstm import mLSTMState


def mlstm_recurrent(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: Any = None,
    *,
    lengths: Array | None = None,
    eps: float = 1e-6,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, Cache]:
    """mLSTM, one step after the other.

    ::

        m_t = max(log f_t + m_{t−1}, ĩ_t);  i′ = e^(ĩ_t − m_t);  f′ = e^(log f_t + m_{t−1} − m_t)
        C_t = f′ C_{t−1} + i′ k_t v_tᵀ / √DK                    (xLSTM paper, Eq 19, transposed)
        n_t = f′ n_{t−1} + i′ k_t / √DK                         (Eq 20)
        h_t = C_tᵀ q_t / (max(|q_t·n_t|, e^(−m_t)) + eps)       (Eq 21)

    With a sigmoid input gate (mLSTMsig of the TFLA paper) i = σ(ĩ), there is no n and no m, and
    h_t = C_tᵀ q_t.

    Parameters
    ----------
    q, k : np.ndarray
        Queries and keys, shape (B, NH, T, DK), T ≥ 0.
    v : np.ndarray
        Values, shape (B, NH, T, DV).
    i, f : np.ndarray
        Pre-activations ĩ and f̃ of the gates, shape (B, NH, T).
    state : mLSTMState, optional
        C (B, NH, DK, DV), n (B, NH, DK) and m (B, NH) before the first step. The empty state,
        m = −inf, if omitted.
    lengths : np.ndarray, optional
        Number of steps of each batch row, integers (B,) from 0 to T; T if omitted. The steps after
        them are padding: they change no state, have outputs of 0, and get gradients of 0.
    eps : float, default 1e-6
        Added to the denominator; 0 is the paper.
    forget_gate : {"sigmoid", "exp"}
        What the forget gate is.
    input_gate : {"exp", "sigmoid"}
        What the input gate is.

    Returns
    -------
    h : np.ndarray
        Outputs, shape (B, NH, T, DV).
    state : mLSTMState
        State after the last step.
    cache : Cache
        What :func:`mlstm_recurrent_backward` needs. It refers to the inputs, to h and to the
        states: change none of them in place before the backward.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        If an argument is not as described.

    Notes
    -----
    C here is the transpose of the paper's, keys × values. The stabiliser is the recurrence that
    the paper gives for sLSTM (Eqs 15–17). Results are infinite where the mathematics exceeds the
    format: C of an exponential forget gate beside a sigmoid input gate, which nothing bounds, and
    with eps = 0 the gradient of a query with q·n = 0, which grows as e^m.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mlstm_recurrent, mlstm_recurrent_backward
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 1, 2, 5, 4))
    >>> i, f = rng.standard_normal((2, 1, 2, 5))
    >>> h, state, cache = mlstm_recurrent(q, k, v, i, f)
    >>> dh = rng.standard_normal(h.shape)
    >>> dq, dk, dv, di, df, dstate0 = mlstm_recurrent_backward(dh, cache)
    >>> h.shape, state.C.shape, di.shape
    ((1, 2, 5, 4), (1, 2, 4, 4), (1, 2, 5))
    """
    options = eps, forget_gate, input_gate
    checked = check_inputs(q, k, v, i, f, state, lengths, options)
    return run(steps, q, k, v, i, f, *checked)


def mlstm_recurrent_backward(
    dh: Array, cache: Cache, dstate: Any = None
) -> Gradients:
    """Vector-Jacobian product of :func:`mlstm_recurrent`.

    Parameters
    ----------
    dh : np.ndarray
        Cotangent of h, shape (B, NH, T, DV).
    cache : Cache
        From the forward. It is not changed, and can be used again.
    dstate : mLSTMState, optional
        Cotangents of C, n and m after the last step; zero if omitted.

    Returns
    -------
    dq, dk, dv, di, df : np.ndarray
        Gradients of the inputs, in their shapes.
    dstate0 : mLSTMState
        Gradients of C, n and m before the first step.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError
        If ``dh`` or ``dstate`` is not as described.
    CacheError
        If ``cache`` is not from that forward.
    """
    return backward(dh, cache, dstate, RecurrentCache)


class RecurrentCache(NamedTuple):
    """What the way back needs; steps are along axis 2, and C is keys × values."""

    k: Array
    v: Array
    i: Array
    """e^(log i − m), (B, NH, T)."""
    f: Array
    past: Array | None
    """Where log f + m₋ is the larger argument of m, or ties."""
    ns: Array | None
    """n before each step and after the last, (B, NH, T + 1, DK)."""
    kept: list[Array]
    """C before steps 0, s, 2·s, …"""

    def backward(
        self, dnum: Array, dqn: Array | None, tau: Array | None, q: Array, dstate: mLSTMState
    ) -> Gradients:
        """Go back through the matrices, then through n and m."""
        k, v, i, f, past, ns, _ = self
        dq, dk, dv, df, dC = self._matrices_backward(dnum, q, dstate.C)
        dn, r, dlog_i, dlog_f = dstate.n, dstate.m, 0, 0
        if ns is not None and past is not None:
            dn, dns = _recur_back(f, dqn[..., None] * q, dstate.n)  # [mlstm.14]
            dq += dqn[..., None] * ns[:, :, 1:]
            dk += dns
            df += dot(ns[:, :, :-1], dns)[..., 0]
            r, dlog_i, dlog_f = _route(past, tau, dstate.m)
        dk *= i[..., None]  # [mlstm.16]
        dlog_i = dlog_i + dot(k, dk)[..., 0]  # [mlstm.18]
        dlog_f = dlog_f + f * df  # [mlstm.19]
        return dq, dk, dv, dlog_i, dlog_f, mLSTMState(dC, dn, r)

    def _matrices_backward(
        self, dnum: Array, q: Array, dC: Array
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Back through C alone: δq, δC v, δv, ⟨C₋, δC⟩ and the δC before the first step."""
        k, v, i, f, _, _, kept = self
        T, ik, dC = q.shape[2], i[..., None] * k, dC.copy()
        dq, dk, dv, df = np.empty_like(q), np.empty_like(k), np.empty_like(v), np.empty_like(f)
        for start in reversed(range(0, T, segment(T))):
            Cs, stop = [kept[start // segment(T)]], min(start + segment(T), T)
            for t in range(start, stop):
                Cs.append(_written(Cs[-1], f[:, :, t], ik[:, :, t], v[:, :, t]))
            for t in reversed(range(start, stop)):
                before, after = Cs[t - start : t - start + 2]
                dC += outer(q[:, :, t], dnum[:, :, t])  # [mlstm.13]
                dq[:, :, t] = _times(after, dnum[:, :, t])  # [mlstm.15]
                dk[:, :, t] = _times(dC, v[:, :, t])
                dv[:, :, t] = (ik[:, :, t, None] @ dC)[..., 0, :]  # [mlstm.17]
                df[:, :, t] = _inner(before, dC)
                dC *= f[:, :, t, None, None]
        return dq, dk, dv, df, dC


def steps(
    q: Array, k: Array, v: Array, log_i: Array, log_f: Array, state: mLSTMState
) -> tuple[Array, Array | None, Array | None, mLSTMState, RecurrentCache]:
    """Take one step after the other: the recurrent form, without its denominator."""
    C, n, m = state
    ms = past = qn = ns = None
    if n is not None and m is not None:
        ms, past = _stabilisers(log_i, log_f, m)
        before, ms = ms[:, :, :-1], ms[:, :, 1:]
        m = ms[:, :, -1] if ms.shape[2] else m
        i = np.exp(log_i - np.where(ms.real == -np.inf, 0, ms))  # [stab.4]
        f = carried(log_f, before, ms)  # [stab.5]
    else:
        i, f = np.exp(log_i), np.exp(log_f)  # [mlstm.20]
    ik, num, kept = i[..., None] * k, np.empty_like(v), []
    T = q.shape[2]
    for t in range(T):
        if t % segment(T) == 0:
            kept.append(C)
            C = _written(C, f[:, :, t], ik[:, :, t], v[:, :, t])
        else:
            C *= f[:, :, t, None, None]
            C += outer(ik[:, :, t], v[:, :, t])  # [mlstm.6]
        num[:, :, t] = (q[:, :, t, None] @ C)[..., 0, :]  # [mlstm.8]
    if n is not None:
        ns = _recur(f, ik, n)  # [mlstm.7]
        qn, n = dot(q, ns[:, :, 1:])[..., 0], ns[:, :, -1].copy()
    return num, qn, ms, mLSTMState(C, n, m), RecurrentCache(k, v, i, f, past, ns, kept)


def segment(T: int) -> int:
    """Steps between two places where C is kept."""
    return max(1, isqrt(T))


def _written(C: Array, f: Array, ik: Array, v: Array) -> Array:
    """f C + i k vᵀ, a new matrix."""
    written = f[..., None, None] * C
    written += outer(ik, v)
    return written


def outer(a: Array, b: Array) -> Array:
    """Matrix a bᵀ for each batch row and head.

    The one column gets another one, of zeros, beside it: NumPy hands a product to BLAS only where
    more than one column meets a row, and takes up to eight times as long where it does not.
    """
    columns = np.zeros((*a.shape, 2), a.dtype)
    rows = np.zeros((*b.shape[:-1], 2, b.shape[-1]), b.dtype)
    columns[..., 0], rows[..., 0, :] = a, b
    product: Array = columns @ rows
    return product


def _times(matrix: Array, vector: Array) -> Array:
    """Matrix (DK, DV) times vector (DV,), for each batch row and head."""
    product: Array = matrix @ vector[..., None]
    return product[..., 0]


def _inner(a: Array, b: Array) -> Array:
    """Sum of products of two matrices, for each batch row and head."""
    lead = a.shape[:2]
    inner: Array = dot(a.reshape(*lead, -1), b.reshape(*lead, -1))[..., 0]
    return inner


def _stabilisers(log_i: Array, log_f: Array, m: Array) -> tuple[Array, Array]:
    """m before each step and after the last, and where the past wins the maximum or ties."""
    ms = np.empty((*m.shape, log_i.shape[2] + 1), m.dtype)
    ms[:, :, 0] = m
    for t in range(log_i.shape[2]):
        ms[:, :, t + 1] = maximum(log_f[:, :, t] + ms[:, :, t], log_i[:, :, t])  # [stab.3]
    return ms, (log_f + ms[:, :, :-1]).real >= log_i.real


def _route(past: Array, tau: Array, r: Array) -> tuple[Array, Array, Array]:
    """The residual before the first step, and what the log gates get of it  [mlstm.12]."""
    rs = np.empty_like(tau)
    for t in reversed(range(tau.shape[2])):
        rs[:, :, t] = r + tau[:, :, t]
        r = np.where(past[:, :, t], rs[:, :, t], 0)
    return r, np.where(past, 0, rs), np.where(past, rs, 0)  # [stab.7]


def _recur(f: Array, source: Array, n: Array) -> Array:
    """n before each step and after the last, from n = f n₋ + source."""
    ns = np.empty((*source.shape[:2], source.shape[2] + 1, source.shape[3]), n.dtype)
    ns[:, :, 0] = n
    for t in range(source.shape[2]):
        ns[:, :, t + 1] = f[:, :, t, None] * ns[:, :, t] + source[:, :, t]
    return ns


def _recur_back(f: Array, source: Array, dn: Array) -> tuple[Array, Array]:
    """δn before the first step, and δn of all steps: δn = f₊ δn₊ + source."""
    dns = np.empty_like(source)
    for t in reversed(range(source.shape[2])):
        dns[:, :, t] = dn + source[:, :, t]
        dn = f[:, :, t, None] * dns[:, :, t]
    return dn, dns
