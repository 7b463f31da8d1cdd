"""Recurrent form of mLSTM: one step at a time.

The forward splits the sequence into about √T segments, and keeps C at the beginning of each. The
backward recomputes C within each segment.
"""

from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.mlstm import EPS, mLSTMState
from numpy_xlstm.kernels.functions import kernel
from numpy_xlstm.kernels.mlstm import shared
from numpy_xlstm.kernels.mlstm.shared import Cache, Gradients
from numpy_xlstm.kernels.mlstm.step import write, write_and_read
from numpy_xlstm.numerics import Array, dot


def mlstm_recurrent(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: Any = None,
    *,
    lengths: Array | None = None,
    eps: float = EPS,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, Cache]:
    """Run an mLSTM over a sequence, one step at a time.

    ::

        m_t = max(log f_t + m_{t−1}, ĩ_t);  i′ = e^(ĩ_t − m_t);  f′ = e^(log f_t + m_{t−1} − m_t)
        C_t = f′ C_{t−1} + i′ k_t v_tᵀ / √DK                    (xLSTM paper, Eq 19, transposed)
        n_t = f′ n_{t−1} + i′ k_t / √DK                         (Eq 20)
        h_t = C_tᵀ q_t / (max(|q_t·n_t|, e^(−m_t)) + eps)       (Eq 21)

    With a sigmoid input gate (mLSTMsig of the TFLA paper), i = σ(ĩ), there are no n and m, and
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
        C (B, NH, DK, DV), n (B, NH, DK) and m (B, NH) before the first step; the empty state,
        m = −inf, if omitted.
    lengths : np.ndarray, optional
        Number of steps of each batch row, (B,), as in :meth:`mLSTM.forward`.
    eps : float, default 1e-6
        Number added to the denominator; 0 in the paper.
    forget_gate, input_gate : {"sigmoid", "exp"}
        Activations of the gates.

    Returns
    -------
    h : np.ndarray
        Outputs, shape (B, NH, T, DV).
    state : mLSTMState
        State after the last step.
    cache : Cache
        Residuals for :func:`mlstm_recurrent_backward`. They refer to inputs, outputs and states: do
        not modify those arrays until it has run.

    Notes
    -----
    The stabiliser is the recurrence that the paper gives for sLSTM (Eqs 15–17). For float32 it is
    computed in float64, and the m of the state is rounded once. Results that exceed the range of
    the dtype are infinite. This is possible for C, which is unbounded with an exponential forget
    gate and a sigmoid input gate, and, with eps = 0, for the gradient of a query with q·n = 0,
    which grows as e^m.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mlstm_recurrent
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 1, 2, 5, 4))
    >>> h, state, cache = mlstm_recurrent(q, k, v, *rng.standard_normal((2, 1, 2, 5)))
    >>> h.shape, state.C.shape, state.n.shape, state.m.shape
    ((1, 2, 5, 4), (1, 2, 4, 4), (1, 2, 4), (1, 2))
    """
    options = eps, forget_gate, input_gate
    return shared.checked_run(steps, (q, k, v, i, f), state, lengths, options)


def mlstm_recurrent_backward(dh: Array, cache: Cache, dstate: Any = None) -> Gradients:
    """Compute the vector-Jacobian product of :func:`mlstm_recurrent`.

    Parameters
    ----------
    dh : np.ndarray
        Cotangent of h, shape (B, NH, T, DV).
    cache, dstate
        As in :meth:`mLSTM.backward`.

    Returns
    -------
    dq, dk, dv, di, df : np.ndarray
        Gradients of the inputs, in their shapes.
    dstate0 : mLSTMState
        Gradient of the state before the first step.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mlstm_recurrent, mlstm_recurrent_backward
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 1, 2, 5, 4))
    >>> h, state, cache = mlstm_recurrent(q, k, v, *rng.standard_normal((2, 1, 2, 5)))
    >>> dq, dk, dv, di, df, dstate0 = mlstm_recurrent_backward(rng.standard_normal(h.shape), cache)
    >>> dq.shape, df.shape, dstate0.n.shape
    ((1, 2, 5, 4), (1, 2, 5), (1, 2, 4))
    """
    return shared.checked_backward(dh, cache, dstate, RecurrentCache)


class RecurrentCache(NamedTuple):
    """Residuals of the recurrent form."""

    k: Array  # (N, T, DK)
    v: Array
    i: Array  # i′ and f′, (N, T)
    f: Array
    segment: int
    C: Array  # before each segment, and after the last, (N, S + 1, DK, DV)

    def shapes(self, N: int, T: int, DK: int, DV: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the arrays for N heads and T steps."""
        S = -(-T // max(1, self.segment))
        two, C = (N, T), (N, S + 1, DK, DV)
        return {"k": (N, T, DK), "v": (N, T, DV), "i": two, "f": two, "C": C}

    def backward(self, dnum: Array, q: Array, dC: Array) -> tuple[Array, ...]:
        """Compute gradients from the last step to the first, as described in ``shared.py``."""
        k, v, i, f, segment, kept = self
        T, ik, dC = q.shape[1], i[..., None] * k, dC.copy()
        dq, dk, dv, df = (np.empty_like(array) for array in (q, k, v, f))
        for s in reversed(range(kept.shape[1] - 1)):
            Cs, steps = [kept[:, s]], range(T)[s * segment : (s + 1) * segment]
            for t in steps:
                Cs.append(np.empty_like(dC))
                write(ik[:, t], v[:, t], f[:, t], *Cs[-2:])
            for t in reversed(steps):
                dC += np.einsum("nk,nv->nkv", q[:, t], dnum[:, t])  # [mlstm.21]
                dq[:, t] = (Cs.pop() @ dnum[:, t, :, None])[..., 0]  # [mlstm.23]
                dk[:, t] = (dC @ v[:, t, :, None])[..., 0]
                dv[:, t] = (ik[:, t, None] @ dC)[:, 0]  # [mlstm.26]
                df[:, t] = shared.inner_product(Cs[-1], dC)
                dC *= f[:, t, None, None]
        dk *= i[..., None]  # [mlstm.25]
        dlog_i = dot(k, dk)[..., 0]  # [mlstm.27]
        dlog_f = f * df  # [mlstm.28]
        return dq, dk, dv, dlog_i, dlog_f, dC


def steps(
    q: Array, k: Array, v: Array, log_i: Array, log_f: Array, C: Array
) -> tuple[Array, Array, RecurrentCache]:
    """Compute the recurrent form, as described in ``shared.py``."""
    i, f = np.exp(log_i).astype(q.dtype), np.exp(log_f).astype(q.dtype)
    N, T, _ = q.shape
    num, segment = np.empty(v.shape, v.dtype), max(1, isqrt(T))
    kept = np.empty((N, -(-T // segment) + 1, *C.shape[1:]), C.dtype)
    kept[:, 0], turns = C, np.empty((N, 2, *C.shape[1:]), C.dtype)
    ik = i[..., None] * k
    shared.over_heads(through_steps, q.size, q, ik, v, f, num, kept, turns, segment)
    return num, kept[:, -1].copy(), RecurrentCache(k, v, i, f, segment, kept)


@kernel
def through_steps(
    n: Any, q: Any, ik: Any, v: Any, f: Any, num: Any, kept: Any, turns: Any, segment: Any
) -> None:
    """Take all steps, and write C to ``kept`` after each segment.

    After all other steps, C is written to one of the two arrays of ``turns``, in alternation.
    """
    T, C = q.shape[1], kept[n, 0]
    for t in range(T):
        ends = (t + 1) % segment == 0 or t + 1 == T
        after = kept[n, t // segment + 1] if ends else turns[n, t % 2]
        write_and_read(q[n, t], ik[n, t], v[n, t], f[n, t], C, after, num[n, t])
        C = after
