"""mLSTM chunk by chunk: parallel inside of a chunk, recurrent from chunk to chunk.

Derived in ``docs/derivations/mlstm-forms.md``, whose tags are cited here. A group of G neighbouring
chunks of L steps is computed at once. Shapes: q, k (B, NH, G, L, DK), v (B, NH, G, L, DV), log
gates (B, NH, G, L), one state before each chunk: C (B, NH, G, DK, DV), n (B, NH, G, DK), m
(B, NH, G). The parallel form is one chunk.
"""

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.kernels.mlstm.shared import (
    WORTH_THREADS,
    Cache,
    Gradients,
    backward,
    carried,
    check_inputs,
    run,
)
from numpy_xlstm.numerics import Array, check_positive, dot, maximum
from numpy_xlstm.numerics.threads import num_threads
from numpy_xlstm.spec.mlstm import mLSTMState

CHUNK_SIZE = 64
"""Steps per chunk, unless told."""

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
    eps: float = 1e-6,
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
    h : np.ndarray
        Outputs, shape (B, NH, T, DV).
    state : mLSTMState
        State after the last step.
    cache : Cache
        What :func:`mlstm_chunkwise_backward` needs. It refers to the inputs, to h and to the
        states: change none of them in place before the backward.

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
    L = check_positive("chunk_size", chunk_size)
    options = eps, forget_gate, input_gate
    checked = check_inputs(q, k, v, i, f, state, lengths, options)
    return run_chunks(q, k, v, i, f, *checked, chunk_size=L)


def mlstm_chunkwise_backward(dh: Array, cache: Cache, dstate: Any = None) -> Gradients:
    """Vector-Jacobian product of :func:`mlstm_chunkwise`.

    Arguments, results and errors are those of :func:`mlstm_recurrent_backward`.
    """
    return backward(dh, cache, dstate, ChunkwiseCache)


def run_chunks(
    q: Array, k: Array, v: Array, *rest: Any, chunk_size: int
) -> tuple[Array, mLSTMState, Cache]:
    """Run the chunkwise form without checks, a long one on several threads."""
    threads = num_threads() if q.size + v.size >= WORTH_THREADS else 1
    return run(partial(chunks, chunk_size=chunk_size), q, k, v, *rest, threads=threads)


class Group(NamedTuple):
    """What the way back through a group of chunks needs."""

    k: Array
    v: Array
    before: mLSTMState
    """The states before each chunk."""
    inner: Array
    """e^(D̃_ij − m_i): the weights of earlier steps, (…, L, L)."""
    carry: Array
    """e^(b_i + m₀ − m_i): the weight of the state before the chunk, (…, L)."""
    winner: Array | None
    """Which step has the largest exponent, (…, L); −1 for the state before the chunk."""


class ChunkwiseCache(NamedTuple):
    """What the way back through all groups needs."""

    groups: list[Group]
    places: list[slice]
    """Which steps they have."""

    def backward(
        self, dnum: Array, dqn: Array | None, tau: Array | None, q: Array, dstate: mLSTMState
    ) -> Gradients:
        """Go back from the last group to the first."""
        d = dstate
        dq, dv = np.empty_like(q), np.empty_like(dnum)
        dk, (dlog_i, dlog_f) = np.empty_like(q), np.empty((2, *q.shape[:3]), q.dtype)
        for group, place in zip(reversed(self.groups), reversed(self.places), strict=True):
            L = group.carry.shape[-1]
            cut = [None if a is None else _cut(a, place, L) for a in (dnum, dqn, tau, q)]
            *found, d = group_backward(*cut, d, group)
            for grad, part in zip((dq, dk, dv, dlog_i, dlog_f), found, strict=True):
                grad[:, :, place] = part.reshape(grad[:, :, place].shape)
        return dq, dk, dv, dlog_i, dlog_f, d


def chunks(
    q: Array,
    k: Array,
    v: Array,
    log_i: Array,
    log_f: Array,
    state: mLSTMState,
    chunk_size: int,
) -> tuple[Array, Array | None, Array | None, mLSTMState, ChunkwiseCache]:
    """Take group after group: the chunkwise form, without its denominator."""
    B, NH, T, _ = q.shape
    whole, several = T - T % chunk_size, max(1, GROUP_SIZE // (B * NH * chunk_size**2))
    bounds = sorted({*range(0, whole, several * chunk_size), whole, T})
    places = [slice(start, stop) for start, stop in pairwise(bounds)]
    num, qn, ms, groups = np.empty_like(v), None, None, []
    if state.m is not None:
        qn, ms = np.empty((2, B, NH, T), q.dtype)
    for place in places:
        L = min(chunk_size, place.stop - place.start)
        cut = [_cut(array, place, L) for array in (q, k, v, log_i, log_f)]
        *found, state, group = group_forward(*cut, state)
        groups.append(group)
        for array, part in zip((num, qn, ms), found, strict=True):
            if array is not None:
                array[:, :, place] = part.reshape(array[:, :, place].shape)
    return num, qn, ms, state, ChunkwiseCache(groups, places)


def _cut(array: Array, place: slice, L: int) -> Array:
    """Some steps of (B, NH, T, …) as (B, NH, G, L, …)."""
    steps = array[:, :, place]
    return steps.reshape(*steps.shape[:2], -1, L, *steps.shape[3:])


def group_forward(
    q: Array, k: Array, v: Array, log_i: Array, log_f: Array, state: mLSTMState
) -> tuple[Array, Array | None, Array | None, mLSTMState, Group]:
    """num, q·n and m of a group of chunks, and the state after it."""
    D, b = exponents(log_i, log_f)
    inner, carry, winner, m_before, ms, m = weights(D, b, state.m)
    source, decay = inner[..., -1, :, None] * k, carry[..., -1, None]
    C_before, C = _recur(decay[..., None], source.swapaxes(-1, -2) @ v, state.C)  # [form.6]
    q_carry = q * carry[..., None]  # [form.9]
    scores = _products(q, k, inner)
    scores *= inner  # [form.8]
    num = scores @ v
    num += q_carry @ C_before  # [form.11]
    if state.n is None:
        before = mLSTMState(C_before, None, None)
        return num, None, None, mLSTMState(C, None, None), Group(k, v, before, inner, carry, None)
    n_before, n = _recur(decay, source.sum(-2), state.n)  # [form.7]
    qn = scores.sum(-1) + _times(q_carry, n_before)  # [form.10]
    before = mLSTMState(C_before, n_before, m_before)
    return num, qn, ms, mLSTMState(C, n, m), Group(k, v, before, inner, carry, winner)


def exponents(log_i: Array, log_f: Array) -> tuple[Array, Array]:
    """D̃ and b: sums of log gates. None is a difference of longer ones, so that nothing cancels."""
    L = log_f.shape[-1]
    D = log_f[..., :, None] * np.tri(L, k=-1, dtype=log_f.real.dtype)
    with np.errstate(over="ignore"):  # a sum below the smallest number is −inf: a weight of 0
        _sum_down(D)
        D += log_i[..., None, :]  # [form.1]
        D += np.where(np.tri(L, dtype=bool), 0, -np.inf).astype(D.real.dtype)
        return D, np.cumsum(log_f, axis=-1)  # [form.2]


def _sum_down(rows: Array) -> None:
    """Replace each row (…, L, L) by the sum of it and those above; a loop is twice the speed."""
    for i in range(1, rows.shape[-2]):
        rows[..., i, :] += rows[..., i - 1, :]


def weights(D: Array, b: Array, m: Array | None) -> tuple[Any, ...]:
    """Weights of steps and of the state, the winners, m before each chunk, m at all steps, and m.

    D is overwritten.
    """
    if m is None:
        return np.exp(D, out=D), np.exp(b), None, None, None, None
    winner = D.real.argmax(-1)
    largest = np.take_along_axis(D, winner[..., None], -1)[..., 0]
    m_before = np.empty(b.shape[:-1], b.dtype)
    for g in range(b.shape[2]):
        m_before[:, :, g] = m
        m = maximum(b[:, :, g, -1] + m, largest[:, :, g, -1])
    exponent = b + m_before[..., None]
    winner[exponent.real >= largest.real] = -1
    ms = maximum(exponent, largest)  # [form.3]
    D -= np.where(ms.real == -np.inf, 0, ms)[..., None]
    inner = np.exp(D, out=D)  # [form.4]
    carry = carried(b, m_before[..., None], ms)  # [form.5]
    return inner, carry, winner, m_before, ms, m


def _recur(decay: Array, source: Array, start: Array) -> tuple[Array, Array]:
    """y before each chunk, which replaces the source, and after the last: y = decay·y₋ + source."""
    for g in range(source.shape[2]):
        now = decay[:, :, g] * start
        now += source[:, :, g]
        source[:, :, g] = start
        start = now
    return source, start


def _products(a: Array, b: Array, inner: Array) -> Array:
    """a_i·b_j, or 0 where that has overflowed and has no weight."""
    with np.errstate(over="ignore", invalid="ignore"):
        products: Array = a @ b.swapaxes(-1, -2)
        if not np.isfinite(products.sum()):
            products[inner == 0] = 0
    return products


def group_backward(
    dnum: Array, dqn: Array | None, tau: Array | None, q: Array, d: mLSTMState, group: Group
) -> Gradients:
    """Gradients of q, k, v and the log gates of a group, and of the state before it."""
    k, v, before, inner, carry, winner = group
    q_carry, last = q * carry[..., None], inner[..., -1, :, None]
    scores = _products(q, k, inner)
    scores *= inner
    dscores, dq_carry = _products(dnum, v, inner), dnum @ before.C.swapaxes(-1, -2)
    dn = dn_last = dm = None
    if dqn is not None and before.n is not None:
        dscores += dqn[..., None]
        dq_carry += dqn[..., None] * before.n[..., None, :]
        dn_last, dn = _recur_back(carry, (dqn[..., None, :] @ q_carry)[..., 0, :], d.n)
    dC_last, dC = _recur_back(carry, q_carry.swapaxes(-1, -2) @ dnum, d.C)  # [form.16]
    dv = scores.swapaxes(-1, -2) @ dnum
    dv += (last * k) @ dC_last  # [form.20]
    dk_last = v @ dC_last.swapaxes(-1, -2)
    if dn_last is not None:
        dk_last += dn_last[..., None, :]
    dk_last *= last
    dinner = dscores * inner
    dq = dinner @ k
    dq += carry[..., None] * dq_carry  # [form.18]
    dk = dinner.swapaxes(-1, -2) @ q
    dk += dk_last  # [form.19]
    dD = np.multiply(dscores, scores, out=dinner)
    dD[..., -1, :] += _dots(k, dk_last)  # [form.21]
    db = _dots(dq_carry, q_carry)
    db[..., -1] += carry[..., -1] * _dots(before.C, dC_last).sum(-1)  # [form.22]
    if dn_last is not None:
        db[..., -1] += carry[..., -1] * _dots(before.n, dn_last)
        dm = _route(tau, d.m, winner, dD, db)
    return dq, dk, dv, *_exponents_backward(dD, db), mLSTMState(dC, dn, dm)


def _recur_back(carry: Array, from_reading: Array, d: Array) -> tuple[Array, Array]:
    """Cotangents of the state after each chunk, and of the one before the first  [form.17]."""
    decay = carry[..., -1].reshape(*carry.shape[:3], *[1] * (d.ndim - 2))
    after, d = _recur(decay[:, :, ::-1], from_reading[:, :, ::-1], d)
    return after[:, :, ::-1], d


def _route(tau: Array, r: Array, winner: Array, dD: Array, db: Array) -> Array:
    """Add the cotangent of m_i to that of its largest exponent; return the residual before."""
    tau, past = tau.copy(), winner < 0
    for g in reversed(range(tau.shape[2])):
        tau[:, :, g, -1] += r
        r = np.where(past[:, :, g], tau[:, :, g], 0).sum(-1)
    db += np.where(past, tau, 0)  # [form.23]
    first = np.maximum(winner, 0)[..., None]
    to_step = np.take_along_axis(dD, first, -1) + np.where(past, 0, tau)[..., None]
    np.put_along_axis(dD, first, to_step, -1)
    return r


def _exponents_backward(dD: Array, db: Array) -> tuple[Array, Array]:
    """Gradients of the log gates from those of D̃, which is overwritten, and b."""
    _sum_down(dD[..., ::-1, :])
    dlog_i = np.diagonal(dD, axis1=-2, axis2=-1).copy()  # [form.24]
    dlog_f = _dots(dD, np.tri(dD.shape[-1], k=-1, dtype=dD.real.dtype))
    dlog_f += np.cumsum(db[..., ::-1], axis=-1)[..., ::-1]  # [form.25]
    return dlog_i, dlog_f


def _times(vectors: Array, n: Array) -> Array:
    """Products of vectors (…, L, DK) with one vector (…, DK)."""
    product: Array = (vectors @ n[..., None])[..., 0]
    return product


def _dots(a: Array, b: Array) -> Array:
    """Inner products along the last axis."""
    product: Array = np.einsum("...i,...i->...", a, b)
    return product
