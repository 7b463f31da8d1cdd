"""Chunkwise form of mLSTM: parallel within a chunk, recurrent from chunk to chunk.

Derived in ``docs/derivations/mlstm-forms.md``. Without numba, a chunk of L steps is computed for
all heads at once; a compiled kernel computes it for one head, so that it fits in the processor's
cache. The parallel form is a single chunk. N is the number of all heads in all rows, and DV
includes the column of n, see ``shared.py``.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.mlstm import EPS, mLSTMState
from numpy_xlstm.kernels.functions import kernel
from numpy_xlstm.kernels.mlstm import shared
from numpy_xlstm.kernels.mlstm.matrices import (
    decayed,
    gate_gradients,
    plus,
    products,
    row_dots,
    scaled,
    transposed,
    weights,
)
from numpy_xlstm.kernels.mlstm.shared import Cache, Gradients
from numpy_xlstm.kernels.parts import for_loops
from numpy_xlstm.numerics import Array, check_positive

CHUNK_SIZE = 64
"""Default number of steps per chunk."""


def mlstm_chunkwise(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: Any = None,
    *,
    lengths: Array | None = None,
    chunk_size: int = CHUNK_SIZE,
    eps: float = EPS,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, Cache]:
    """Run an mLSTM chunk by chunk: parallel within a chunk, recurrent from chunk to chunk.

    ::

        C_L = Σ_j e^(D̃_Lj − m_L) k_j v_jᵀ / √DK + e^(b_L + m_0 − m_L) C_0
        n_L = Σ_j e^(D̃_Lj − m_L) k_j / √DK      + e^(b_L + m_0 − m_L) n_0

    for each chunk of L ≤ ``chunk_size`` steps. D̃, b and m are as in :func:`mlstm_parallel`, with
    the steps of the chunk counted from 1. The result is that of :func:`mlstm_recurrent`.

    Time grows as T·(L·(DK + DV) + DK·DV). The residuals are inputs, outputs, the state before each
    chunk and the weights within it: T·(2 DK + 2 DV + L) + (T/L)·DK·DV numbers per row and head.

    Parameters
    ----------
    q, k, v, i, f, state, lengths, eps, forget_gate, input_gate
        As in :func:`mlstm_recurrent`.
    chunk_size : int, default 64
        Largest number of steps per chunk, at least 1. Chunks are equally long, up to padding.

    Returns
    -------
    h, state, cache
        As in :func:`mlstm_recurrent`; the cache is for :func:`mlstm_chunkwise_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mlstm_chunkwise, mlstm_recurrent
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 1, 2, 50, 4))
    >>> i, f = rng.standard_normal((2, 1, 2, 50))
    >>> h, state, cache = mlstm_chunkwise(q, k, v, i, f, chunk_size=16)
    >>> np.allclose(h, mlstm_recurrent(q, k, v, i, f)[0], rtol=0, atol=1e-14)
    True
    """
    form = partial(chunks, chunk_size=check_positive("chunk_size", chunk_size))
    options = eps, forget_gate, input_gate
    return shared.checked_run(form, (q, k, v, i, f), state, lengths, options)


def mlstm_chunkwise_backward(dh: Array, cache: Cache, dstate: Any = None) -> Gradients:
    """Compute the vector-Jacobian product of :func:`mlstm_chunkwise` or :func:`mlstm_parallel`.

    Parameters
    ----------
    dh, cache, dstate
        As in :func:`mlstm_recurrent_backward`.

    Returns
    -------
    dq, dk, dv, di, df, dstate0
        Gradients of the inputs, in their shapes, and of the state before the first step.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mlstm_chunkwise, mlstm_chunkwise_backward
    >>> from numpy_xlstm import mlstm_recurrent, mlstm_recurrent_backward
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, dh = rng.standard_normal((4, 1, 2, 5, 4))
    >>> i, f = rng.standard_normal((2, 1, 2, 5))
    >>> dq = mlstm_chunkwise_backward(dh, mlstm_chunkwise(q, k, v, i, f, chunk_size=2)[2])[0]
    >>> same = mlstm_recurrent_backward(dh, mlstm_recurrent(q, k, v, i, f)[2])[0]
    >>> np.allclose(dq, same, rtol=1e-12)
    True
    """
    return shared.checked_backward(dh, cache, dstate, ChunkwiseCache)


def mlstm_parallel(
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
    """Run an mLSTM over all steps at once.

    ::

        D̃_ij = log f_{j+1} + … + log f_i + ĩ_j  for j ≤ i, else −inf
        m_i  = max(b_i + m_0, max_j D̃_ij)  with  b_i = log f_1 + … + log f_i
        S_ij = (q_i·k_j / √DK) e^(D̃_ij − m_i);  q̄_i = q_i e^(b_i + m_0 − m_i)
        h_i  = (Σ_j S_ij v_j + C_0ᵀ q̄_i) / (max(|Σ_j S_ij + q̄_i·n_0|, e^(−m_i)) + eps)

    (xLSTM paper, Eqs 71–86, which have no initial state, that is, no index 0, and no eps).
    The result is that of :func:`mlstm_recurrent`. Time and memory grow as T²: a few matrices of
    B·NH·T² entries exist at once. For a long sequence, use :func:`mlstm_chunkwise`.

    Parameters
    ----------
    q, k, v, i, f, state, lengths, eps, forget_gate, input_gate
        As in :func:`mlstm_recurrent`.

    Returns
    -------
    h, state, cache
        As in :func:`mlstm_recurrent`; the cache is for :func:`mlstm_parallel_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mlstm_parallel, mlstm_recurrent
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 1, 2, 5, 4))
    >>> i, f = rng.standard_normal((2, 1, 2, 5))
    >>> h, state, cache = mlstm_parallel(q, k, v, i, f)
    >>> np.allclose(h, mlstm_recurrent(q, k, v, i, f)[0], rtol=0, atol=1e-14)
    True
    """
    form, options = partial(chunks, chunk_size=0), (eps, forget_gate, input_gate)
    return shared.checked_run(form, (q, k, v, i, f), state, lengths, options)


mlstm_parallel_backward = mlstm_chunkwise_backward


class ChunkwiseCache(NamedTuple):
    """Residuals of G chunks of L steps, with padding at the end."""

    k: Array  # (N, G·L, DK)
    v: Array
    w: Array  # w_ij, weights of the steps of a chunk, (N, G·L, L)
    w_state: Array  # w_i0, weights of the state before the chunk, (N, G·L)
    C: Array  # before, between and after the chunks, (N, G + 1, DK, DV)

    def shapes(self, N: int, T: int, DK: int, DV: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the arrays for N heads and T steps."""
        L = np.shape(self.w)[-1] if np.ndim(self.w) else 0
        G = -(-T // max(1, L))
        all_steps = N, G * L
        C = (N, G + 1, DK, DV)
        shapes = {"k": (*all_steps, DK), "v": (*all_steps, DV), "w": (*all_steps, L)}
        return shapes | {"w_state": all_steps, "C": C}

    def backward(self, dnum: Array, q: Array, dC: Array) -> tuple[Array, ...]:
        """Compute gradients from the last chunk to the first, as described in ``shared.py``."""
        T, steps = q.shape[1], self.k.shape[1]
        dnum, q, dC = padded(dnum, steps), padded(q, steps), dC.copy()
        grads = [np.empty_like(a) for a in (q, self.k, self.v, self.w_state, self.w_state)]
        size = q.size + dnum.size
        residuals = tuple(map(for_loops, self))
        shared.over_heads(backward_through_chunks, size, dnum, q, residuals, tuple(grads), dC)
        return *(array[:, :T] for array in grads), dC


def chunks(
    q: Array, k: Array, v: Array, log_i: Array, log_f: Array, C: Array, chunk_size: int
) -> tuple[Array, Array, ChunkwiseCache]:
    """Compute the chunkwise form, as described in ``shared.py``.

    A chunk size of 0 means a single chunk, which is the parallel form. Chunks are equally long;
    padding in the last one writes and forgets nothing.
    """
    N, T, _ = q.shape
    G = -(-T // (chunk_size or max(1, T)))
    L = -(-T // max(1, G))
    q, k, v = (padded(array, G * L) for array in (q, k, v))
    log_i, log_f = padded(log_i, G * L, -np.inf), padded(log_f, G * L)
    num, w, w_state = (np.empty((N, G * L, *last), v.dtype) for last in (v.shape[2:], (L,), ()))
    Cs = np.empty((N, G + 1, *C.shape[1:]), v.dtype)
    Cs[:, 0] = C
    shared.over_heads(through_chunks, q.size + v.size, q, k, v, log_i, log_f, num, w, w_state, Cs)
    return num[:, :T], Cs[:, -1].copy(), ChunkwiseCache(k, v, w, w_state, Cs)


def padded(array: Array, steps: int, number: float = 0) -> Array:
    """Return (N, T, …) with this number in further steps; the same array if there are none."""
    N, T, *rest = array.shape
    if steps == T:
        return array
    end = np.full((N, steps - T, *rest), number, array.dtype)
    return np.concatenate([array, end], axis=1)


@kernel
def through_chunks(
    n: Any, q: Any, k: Any, v: Any, log_i: Any, log_f: Any, num: Any, w: Any, w_state: Any, C: Any
) -> None:
    """Write Cᵀq of all steps, the weights of each chunk, and C after each chunk."""
    L = w.shape[2]
    for g in range(C.shape[1] - 1):
        at = n, slice(g * L, g * L + L)
        W, to_state, C_before = w[at], w_state[at], C[n, g]
        weights(log_i[at], log_f[at], W, to_state)
        scores = products(q[at], k[at], W)
        scores *= W  # [form.5]
        plus(scores @ v[at], scaled(q[at], to_state) @ C_before, num[at])  # [form.6] [form.7]
        written = transposed(scaled(k[at], W[..., -1, :])) @ v[at]
        plus(written, decayed(C_before, to_state), C[n, g + 1])  # [form.4]


@kernel
def backward_through_chunks(n: Any, dnums: Any, qs: Any, cache: Any, grads: Any, dCs: Any) -> None:
    """Write the gradients of q, k, v and the log gates; update dC to that of the first C."""
    (ks, vs, ws, ws_state, Cs), (dq, dk, dv, dlog_i, dlog_f) = cache, grads
    L, dC = ws.shape[2], dCs[n]
    for g in range(Cs.shape[1] - 2, -1, -1):
        at = n, slice(g * L, g * L + L)
        dnum, q, k, v = dnums[at], qs[at], ks[at], vs[at]
        w, w_state, C = ws[at], ws_state[at], Cs[n, g]
        scores, dscores = products(q, k, w), products(dnum, v, w)
        scores *= w
        dS, dD = dscores * w, dscores * scores
        q_state, w_last = scaled(q, w_state), w[..., -1, :]
        plus(transposed(scores) @ dnum, scaled(k, w_last) @ dC, dv[at])  # [form.11]
        dk_last = scaled(v @ transposed(dC), w_last)
        plus(transposed(dS) @ q, dk_last, dk[at])  # [form.10]
        dq_state = scaled(dnum @ transposed(C), w_state)
        plus(dS @ k, dq_state, dq[at])  # [form.9]
        last, db = row_dots(k, dk_last), row_dots(q, dq_state)  # [form.12]
        through = row_dots(C, dC)  # [form.13]
        gate_gradients(dD, last, db, through, w_state, dlog_i[at], dlog_f[at])
        plus(transposed(q_state) @ dnum, decayed(dC, w_state), dC)  # [form.8]
