"""Chunkwise form of mLSTM: parallel within a chunk, recurrent from chunk to chunk.

Derived in ``docs/derivations/mlstm-forms.md``. Without numba, a chunk of L steps is computed for
all heads at once; a compiled kernel computes it for one head, so that it fits in the processor's
cache. Arrays have the following shapes, without the axes of rows and heads: q, k (L, DK); v, num
(L, DV); log gates, w_state (L,); w (L, L); C (DK, DV). DV includes the column of n, see
``shared.py``. Each array has a first axis of G chunks. The parallel form is a single chunk.
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
from numpy_xlstm.kernels.mlstm.shared import Cache, Gradients, Heads
from numpy_xlstm.numerics import Array, check_positive
from numpy_xlstm.numerics.threads import num_threads

CHUNK_SIZE = 64
"""Default number of steps per chunk."""

WORTH_THREADS = 2**18
"""Smallest size of q and v at which several threads are faster."""


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

    for chunks of L = ``chunk_size`` steps, with D̃, b and m as in :func:`mlstm_parallel`, for the
    steps of the chunk. The result is that of :func:`mlstm_recurrent`.

    Time grows as T·(L·(DK + DV) + DK·DV). The residuals are the inputs, the state before each chunk
    and the weights within it: T·(2 DK + DV + L) + (T/L)·DK·DV numbers per batch row and head.

    Parameters
    ----------
    q, k, v, i, f, state, lengths, eps, forget_gate, input_gate
        As in :func:`mlstm_recurrent`.
    chunk_size : int, default 64
        Steps per chunk, L ≥ 1. T need not be a multiple.

    Returns
    -------
    h, state, cache
        As in :func:`mlstm_recurrent`; the cache is for :func:`mlstm_chunkwise_backward`.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        As in :func:`mlstm_recurrent`.

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

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, CacheError
        As in :func:`mlstm_recurrent_backward`.

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

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        As in :func:`mlstm_recurrent`.

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


class Segment(NamedTuple):
    """Consecutive chunks of the same length; a shorter last chunk is a segment of its own."""

    steps: slice
    L: int
    w: Array  # w_ij, weights of the steps of a chunk, (B, NH, G·L, L)
    w_state: Array  # w_i0, weights of the state before the chunk, (B, NH, G·L)
    C: Array  # before, between and after the chunks, (B, NH, G + 1, DK, DV)

    @classmethod
    def empty(cls, start: int, stop: int, L: int, v: Array, C: Array) -> "Segment":
        """Return a segment with uninitialised arrays."""
        T = stop - start
        shapes = (T, L), (T,), (T // L + 1, *C.shape[2:])
        arrays = (np.empty((*C.shape[:2], *shape), v.dtype) for shape in shapes)
        return cls(slice(start, stop), L, *arrays)

    def cut(self, *arrays: Array) -> list[Array]:
        """Return arrays (B, NH, T, …) cut into chunks, (G, B, NH, L, …), then w, w_state and C."""
        B, NH, G, _, _ = self.C.shape
        steps = [*(array[:, :, self.steps] for array in arrays), self.w, self.w_state]
        chunks = [array.reshape(B, NH, G - 1, self.L, *array.shape[3:]) for array in steps]
        return [shared.time_first(array) for array in (*chunks, self.C)]


class ChunkwiseCache(NamedTuple):
    """Residuals of all chunks."""

    k: Array
    v: Array
    segments: list[Segment]

    def backward(self, dnum: Array, q: Array, dC: Array) -> tuple[Array, ...]:
        """Compute gradients from the last chunk to the first, as described in ``shared.py``."""
        (dnum, q), dC = shared.contiguous(dnum, q), dC.copy()
        grads = [np.empty(a.shape, a.dtype) for a in (q, q, dnum, q[..., 0], q[..., 0])]
        cuts = [each.cut(dnum, q, self.k, self.v, *grads) for each in self.segments[::-1]]

        def some_heads(run: Any, heads: Heads) -> None:
            for arrays in cuts:
                run(tuple(array[:, *heads] for array in arrays), dC[heads])

        shared.over_heads(backward_through_chunks, some_heads, q, worth_threads(q, dnum))
        return *grads, dC


def chunks(
    q: Array, k: Array, v: Array, log_i: Array, log_f: Array, C: Array, chunk_size: int
) -> tuple[Array, Array, ChunkwiseCache]:
    """Compute the chunkwise form, as described in ``shared.py``.

    A chunk size of 0 means a single chunk, which is the parallel form.
    """
    inputs = q, k, v, log_i, log_f = shared.contiguous(q, k, v, log_i, log_f)
    T, num = q.shape[2], np.empty(v.shape, v.dtype)
    L = chunk_size or max(1, T)
    whole = T - T % L
    bounds = (0, whole, L), (whole, T, T - whole)
    segments = [Segment.empty(a, b, size, v, C) for a, b, size in bounds if a < b]
    cuts = [segment.cut(*inputs, num) for segment in segments]

    def some_heads(run: Any, heads: Heads) -> None:
        before = C[heads]
        for arrays in cuts:
            part = tuple(array[:, *heads] for array in arrays)
            part[-1][0] = before
            run(part)
            before = part[-1][-1]

    shared.over_heads(through_chunks, some_heads, q, worth_threads(q, v))
    after = segments[-1].C[:, :, -1] if segments else C
    return num, after.copy(), ChunkwiseCache(k, v, segments)


def worth_threads(q: Array, v: Array) -> int:
    """Return the number of threads to use: 1 for small arrays."""
    return num_threads() if q.size + v.size >= WORTH_THREADS else 1


@kernel
def through_chunks(arrays: Any) -> None:
    """Write Cᵀq of all steps, the weights of each chunk, and C after each chunk."""
    q, k, v, log_i, log_f, num, w, w_state, C = arrays
    for g in range(len(q)):
        weights(log_i[g], log_f[g], w[g], w_state[g])
        scores = products(q[g], k[g], w[g])
        scores *= w[g]  # [form.5]
        plus(scores @ v[g], scaled(q[g], w_state[g]) @ C[g], num[g])  # [form.6] [form.7]
        written = transposed(scaled(k[g], w[g][..., -1, :])) @ v[g]
        plus(written, decayed(C[g], w_state[g]), C[g + 1])  # [form.4]


@kernel
def backward_through_chunks(arrays: Any, dC: Any) -> None:
    """Write the gradients of q, k, v and the log gates; update dC to that of the first C."""
    dnums, qs, ks, vs, dq, dk, dv, dlog_i, dlog_f, ws, ws_state, Cs = arrays
    for g in range(len(qs) - 1, -1, -1):
        dnum, q, k, v, w, w_state, C = dnums[g], qs[g], ks[g], vs[g], ws[g], ws_state[g], Cs[g]
        scores, dscores = products(q, k, w), products(dnum, v, w)
        scores *= w
        dS, dD = dscores * w, dscores * scores
        q_state, w_last = scaled(q, w_state), w[..., -1, :]
        plus(transposed(scores) @ dnum, scaled(k, w_last) @ dC, dv[g])  # [form.11]
        dk_last = scaled(v @ transposed(dC), w_last)
        plus(transposed(dS) @ q, dk_last, dk[g])  # [form.10]
        dq_state = scaled(dnum @ transposed(C), w_state)
        plus(dS @ k, dq_state, dq[g])  # [form.9]
        last, db = row_dots(k, dk_last), row_dots(q, dq_state)  # [form.12]
        through = row_dots(C, dC)  # [form.13]
        gate_gradients(dD, last, db, through, w_state, dlog_i[g], dlog_f[g])
        plus(transposed(q_state) @ dnum, decayed(dC, w_state), dC)  # [form.8]
