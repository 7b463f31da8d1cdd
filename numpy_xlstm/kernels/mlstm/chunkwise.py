"""mLSTM chunk by chunk: parallel inside of a chunk, recurrent from chunk to chunk.

Derived in ``docs/derivations/mlstm-forms.md``, whose tags are cited here. A group of G neighbouring
chunks of L steps is computed at once. Shapes: q, k (B, NH, G, L, DK), v (B, NH, G, L, DV), log
gates (B, NH, G, L), C before each chunk (B, NH, G, DK, DV), where DV counts the column of n, see
``shared.py``. The parallel form is one chunk.
"""

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.mlstm import EPS, mLSTMState
from numpy_xlstm.kernels.mlstm.shared import Cache, Gradients, checked_backward, checked_run
from numpy_xlstm.numerics import Array, check_positive, dot
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread

CHUNK_SIZE = 64
"""Steps per chunk, unless told."""

WORTH_THREADS = 2**20
"""Numbers in q and v from which on several threads are faster than one."""

GROUP_SIZE = 2**19
"""Entries of the matrices D̃ of one group: few, to stay near the processor; enough, to be fast."""


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
    """mLSTM, chunk by chunk: parallel inside of a chunk, recurrent from chunk to chunk.

    ::

        C_L = Σ_j e^(D̃_Lj − m_L) k_j v_jᵀ / √DK + e^(b_L + m_0 − m_L) C_0
        n_L = Σ_j e^(D̃_Lj − m_L) k_j / √DK      + e^(b_L + m_0 − m_L) n_0

    for chunks of L = ``chunk_size`` steps, with D̃, b and m as in :func:`mlstm_parallel`, counted
    from the beginning of the chunk. The result is that of :func:`mlstm_recurrent`.

    Time grows as T·(L·(DK + DV) + DK·DV). What the backward needs are the inputs, the state before
    each chunk and the weights within it: T·(2 DK + DV + L) + (T/L)·DK·DV numbers per batch row and
    head.

    Parameters
    ----------
    q, k, v, i, f, state, lengths, eps, forget_gate, input_gate
        As in :func:`mlstm_recurrent`.
    chunk_size : int, default 64
        Steps per chunk, L ≥ 1. T need not be a multiple.

    Returns
    -------
    h, state, cache
        As of :func:`mlstm_recurrent`; the cache is for :func:`mlstm_chunkwise_backward`.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        If an argument is not as described.

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
    return checked_run(form, (q, k, v, i, f), state, lengths, options)


def mlstm_chunkwise_backward(dh: Array, cache: Cache, dstate: Any = None) -> Gradients:
    """Vector-Jacobian product of :func:`mlstm_chunkwise`.

    Parameters
    ----------
    dh : np.ndarray
        Cotangent of h, shape (B, NH, T, DV).
    cache
        From :func:`mlstm_chunkwise`.
    dstate : mLSTMState, optional
        Cotangent of the state after the last step; 0 if omitted.

    Returns
    -------
    dq, dk, dv, di, df : np.ndarray
        Gradients of the inputs, in their shapes, (B, NH, T, ·) and (B, NH, T).
    dstate0 : mLSTMState
        Gradient of the state before the first step.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, CacheError
        If ``dh`` or ``dstate`` is not like what the forward returned, or ``cache`` is another.

    Examples
    --------
    It is that of :func:`mlstm_recurrent_backward`, computed chunk by chunk:

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
    return checked_backward(dh, cache, dstate, ChunkwiseCache)


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
    """mLSTM, all steps at once.

    ::

        D̃_ij = log f_{j+1} + … + log f_i + ĩ_j  for j ≤ i, else −inf
        m_i  = max(b_i + m_0, max_j D̃_ij)  with  b_i = log f_1 + … + log f_i
        S_ij = (q_i·k_j / √DK) e^(D̃_ij − m_i);  q̄_i = q_i e^(b_i + m_0 − m_i)
        h_i  = (Σ_j S_ij v_j + C_0ᵀ q̄_i) / (max(|Σ_j S_ij + q̄_i·n_0|, e^(−m_i)) + eps)

    (xLSTM paper, Eqs 71–86, which have no terms with index 0: no initial state, and no eps).
    The result is that of :func:`mlstm_recurrent`. Time and memory grow as T²: a few matrices of
    B·NH·T² entries exist at once. For a long sequence see :func:`mlstm_chunkwise`.

    Parameters
    ----------
    q, k, v, i, f, state, lengths, eps, forget_gate, input_gate
        As in :func:`mlstm_recurrent`.

    Returns
    -------
    h, state, cache
        As of :func:`mlstm_recurrent`; the cache is for :func:`mlstm_parallel_backward`.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        If an argument is not as described.

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
    return checked_run(form, (q, k, v, i, f), state, lengths, options)


def mlstm_parallel_backward(dh: Array, cache: Cache, dstate: Any = None) -> Gradients:
    """Vector-Jacobian product of :func:`mlstm_parallel`.

    Parameters
    ----------
    dh : np.ndarray
        Cotangent of h, shape (B, NH, T, DV).
    cache
        From :func:`mlstm_parallel`.
    dstate : mLSTMState, optional
        Cotangent of the state after the last step; 0 if omitted.

    Returns
    -------
    dq, dk, dv, di, df : np.ndarray
        Gradients of the inputs, in their shapes, (B, NH, T, ·) and (B, NH, T).
    dstate0 : mLSTMState
        Gradient of the state before the first step.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, CacheError
        If ``dh`` or ``dstate`` is not like what the forward returned, or ``cache`` is another.

    Examples
    --------
    It is that of :func:`mlstm_recurrent_backward`, computed all steps at once:

    >>> import numpy as np
    >>> from numpy_xlstm import mlstm_parallel, mlstm_parallel_backward
    >>> from numpy_xlstm import mlstm_recurrent, mlstm_recurrent_backward
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, dh = rng.standard_normal((4, 1, 2, 5, 4))
    >>> i, f = rng.standard_normal((2, 1, 2, 5))
    >>> dq = mlstm_parallel_backward(dh, mlstm_parallel(q, k, v, i, f)[2])[0]
    >>> same = mlstm_recurrent_backward(dh, mlstm_recurrent(q, k, v, i, f)[2])[0]
    >>> np.allclose(dq, same, rtol=1e-12)
    True
    """
    return checked_backward(dh, cache, dstate, ChunkwiseCache)


class Group(NamedTuple):
    """What the way back through a group of chunks needs."""

    where: tuple[slice, slice, slice]  # which rows, heads and steps
    k: Array
    v: Array
    C: Array  # before each chunk
    w: Array  # w_ij, the weights of the steps of the chunk, (…, L, L)
    w_state: Array  # w_i0, those of the state before the chunk, (…, L)


class ChunkwiseCache(NamedTuple):
    """The groups that each thread has gone through."""

    threads: list[list[Group]]

    def backward(self, dnum: Array, q: Array, dC: Array) -> tuple[Array, ...]:
        """Go back from the last group to the first."""
        dC, dlog_i = dC.copy(), np.empty(q.shape[:3], q.dtype)
        grads = np.empty_like(q), np.empty_like(q), np.empty_like(dnum), dlog_i, dlog_i.copy()

        def some_heads(groups: list[Group]) -> None:
            for group in reversed(groups):
                where, heads, L = group.where, group.where[1], group.w.shape[-1]
                cotangents = _cut(dnum[where], L), _cut(q[where], L), dC[:, heads]
                *found, dC[:, heads] = group_backward(*cotangents, group)
                for grad, part in zip(grads, found, strict=True):
                    grad[where] = part.reshape(grad[where].shape)

        parallel_map(some_heads, self.threads)
        return *grads, dC


def chunks(
    q: Array, k: Array, v: Array, log_i: Array, log_f: Array, C: Array, chunk_size: int
) -> tuple[Array, Array, ChunkwiseCache]:
    """Take group after group: the chunkwise form, as ``shared.py`` describes it.

    A chunk size of 0 says one chunk: the parallel form.
    """
    B, NH, T, _ = q.shape
    chunk_size = chunk_size or max(1, T)
    whole, group_size = T - T % chunk_size, max(1, GROUP_SIZE // (B * NH * chunk_size**2))
    bounds = sorted({*range(0, whole, group_size * chunk_size), whole, T})
    num, C = np.empty_like(v), C.copy()

    def some_heads(heads: slice) -> list[Group]:
        groups = []
        for start, stop in pairwise(bounds):
            where, L = (slice(None), heads, slice(start, stop)), min(chunk_size, stop - start)
            inputs = [_cut(array[where], L) for array in (q, k, v, log_i, log_f)]
            part, C[:, heads], group = group_forward(inputs, C[:, heads], where)
            num[where] = part.reshape(num[where].shape)
            groups.append(group)
        return groups

    threads = num_threads() if q.size + v.size >= WORTH_THREADS else 1
    return num, C, ChunkwiseCache(parallel_map(some_heads, spread(NH, threads)))


def _cut(array: Array, L: int) -> Array:
    """Steps (B, NH, G·L, …) as chunks (B, NH, G, L, …)."""
    return array.reshape(*array.shape[:2], -1, L, *array.shape[3:])


def group_forward(
    inputs: list[Array], C: Array, where: tuple[slice, slice, slice]
) -> tuple[Array, Array, Group]:
    """Cᵀq at all steps of a group of chunks, and C after it."""
    q, k, v, log_i, log_f = inputs
    w = np.exp(exponents(log_i.astype(q.dtype), log_f.astype(q.dtype)))  # [form.3]
    w_state = np.exp(log_f.cumsum(-1)).astype(q.dtype)  # [form.2]
    written = (w[..., -1, :, None] * k).swapaxes(-1, -2) @ v
    C_before, C = _recur(w_state, written, C)  # [form.4]
    scores = _products(q, k, w)
    scores *= w  # [form.5]
    num = scores @ v
    num += (q * w_state[..., None]) @ C_before  # [form.6] [form.7]
    return num, C, Group(where, k, v, C_before, w, w_state)


def exponents(log_i: Array, log_f: Array) -> Array:
    """D̃: sums of log gates. None is a difference of longer ones, so that nothing cancels."""
    L = log_f.shape[-1]
    D = np.where(np.tri(L, k=-1, dtype=bool), log_f[..., :, None], 0)
    with np.errstate(over="ignore"):  # a sum below the smallest number is −inf: a weight of 0
        _sum_down(D)
        D += log_i[..., None, :]  # [form.1]
        D += np.where(np.tri(L, dtype=bool), 0, -np.inf).astype(D.real.dtype)
    return D


def _sum_down(rows: Array) -> None:
    """Replace each row (…, L, L) by the sum of it and those above; a loop is twice the speed."""
    for i in range(1, rows.shape[-2]):
        rows[..., i, :] += rows[..., i - 1, :]


def _recur(w_state: Array, written: Array, C: Array) -> tuple[Array, Array]:
    """C before each chunk, which replaces what the chunk has written, and C after the last."""
    for g in range(written.shape[2]):
        after = w_state[:, :, g, -1, None, None] * C
        after += written[:, :, g]
        written[:, :, g] = C
        C = after
    return written, C


def _products(a: Array, b: Array, w: Array) -> Array:
    """Products a_i·b_j, or 0 where that has overflowed and has no weight."""
    with np.errstate(over="ignore", invalid="ignore"):
        products: Array = a @ b.swapaxes(-1, -2)
        if not np.isfinite(products.sum()):
            products[w == 0] = 0
    return products


def group_backward(dnum: Array, q: Array, dC: Array, group: Group) -> tuple[Array, ...]:
    """Gradients of q, k, v and the log gates of a group, and of C before it."""
    _, k, v, C, w, w_state = group
    q_state, w_last, backwards = q * w_state[..., None], w[..., -1, :, None], np.s_[:, :, ::-1]
    scores = _products(q, k, w)
    scores *= w
    dscores, dq_state = _products(dnum, v, w), dnum @ C.swapaxes(-1, -2)
    read = q_state.swapaxes(-1, -2) @ dnum
    dC_after, dC = _recur(w_state[backwards], read[backwards], dC)  # [form.8]
    dC_after = dC_after[backwards]
    dv = scores.swapaxes(-1, -2) @ dnum
    dv += (w_last * k) @ dC_after  # [form.11]
    dk_last = v @ dC_after.swapaxes(-1, -2)
    dk_last *= w_last
    dS = dscores * w
    dq = dS @ k
    dq += w_state[..., None] * dq_state  # [form.9]
    dk = dS.swapaxes(-1, -2) @ q
    dk += dk_last  # [form.10]
    dD = np.multiply(dscores, scores, out=dS)
    dD[..., -1, :] += dot(k, dk_last)[..., 0]  # [form.12]
    db = dot(dq_state, q_state)[..., 0]
    db[..., -1] += w_state[..., -1] * np.einsum("...ij,...ij->...", C, dC_after)  # [form.13]
    _sum_down(dD[..., ::-1, :])
    dlog_i = np.diagonal(dD, axis1=-2, axis2=-1)  # [form.14]
    dlog_f = dot(dD, np.tri(dD.shape[-1], k=-1, dtype=dD.dtype))[..., 0]
    dlog_f += db[..., ::-1].cumsum(-1)[..., ::-1]  # [form.15]
    return dq, dk, dv, dlog_i, dlog_f, dC
