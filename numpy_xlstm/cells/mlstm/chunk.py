"""A group of neighbouring chunks of mLSTM at once: what parallel and chunkwise form are made of.

Derived in ``docs/derivations/mlstm-forms.md``, whose tags are cited here. A group has G chunks of
L steps. Shapes: q, k (B, NH, G, L, DK), v (B, NH, G, L, DV), log gates (B, NH, G, L), one state
before each chunk: C (B, NH, G, DK, DV), n (B, NH, G, DK), m (B, NH, G). The parallel form is one
chunk.

What a step reads is written in one product: the state before the chunk stands for DK more steps,
with the rows of C as their values, and q times its weight as their scores.
"""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.cells.mlstm.inputs import MemoryInputs
from numpy_xlstm.cells.mlstm.normalizer import Denominator, denominator
from numpy_xlstm.cells.mlstm.step import StateCotangent
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.numerics import Array, maximum


class Exponents(NamedTuple):
    """Logarithms of what is left of each earlier step, and of the state before the chunk."""

    inner: Array
    """D̃_ij, shape (…, L, L): what step i still has of step j; −inf above the diagonal."""
    state: Array
    """b_i, shape (…, L): what step i still has of the state before the chunk."""


class Weights(NamedTuple):
    """The exponentials of the exponents, divided by e^m."""

    inner: Array
    """e^(D̃_ij − m_i), shape (…, L, L)."""
    state: Array
    """e^(b_i + m₀ − m_i), shape (…, L)."""
    m: Array | None
    """m_i, shape (…, L); None where there is nothing to stabilise."""


def exponents(log_i: Array, log_f: Array) -> Exponents:
    """Sum the log gates. No sum is a difference of longer ones, so that nothing cancels."""
    L, dtype = log_f.shape[-1], log_f.real.dtype
    inner = log_f[..., :, None] * np.tri(L, k=-1, dtype=dtype)
    with np.errstate(over="ignore"):  # a sum below the smallest number is −inf: a weight of 0
        _sum_down(inner)  # [form.1]
        inner += log_i[..., None, :]
        inner += np.where(np.tri(L, dtype=bool), 0, -np.inf).astype(dtype)
        return Exponents(inner, np.cumsum(log_f, axis=-1))  # [form.2]


def _sum_down(rows: Array) -> None:
    """Replace each row (…, L, L) by the sum of it and those above; a loop is twice the speed."""
    for i in range(1, rows.shape[-2]):
        rows[..., i, :] += rows[..., i - 1, :]


def stabilisers(e: Exponents, m: Array | None, before: Array | None) -> Array | None:
    """Write m before each chunk to ``before``, return that after the last: row L of [form.3]."""
    if m is None or before is None:
        return None
    largest, carry = _row_maximum(e.inner[..., -1, :]), e.state[..., -1]
    for g in range(carry.shape[2]):
        before[:, :, g] = m
        m = maximum(carry[:, :, g] + m, largest[:, :, g])
    return m


def weights(e: Exponents, m_before: Array | None) -> Weights:
    """Divide the exponentials of ``e`` by e^m, row by row, m being their largest."""
    if m_before is None:
        return Weights(np.exp(e.inner), np.exp(e.state), None)
    carried = e.state + m_before[..., None]
    m = maximum(carried, _row_maximum(e.inner))  # [form.3]
    empty = m.real == -np.inf  # nothing has come yet, which carries on as it is
    shift = np.where(empty, 0, m) if empty.any() else m
    inner = e.inner - shift[..., None]
    np.exp(inner, out=inner)  # [form.4]
    return Weights(inner, np.exp(np.where(empty, 0, carried - shift)), m)  # [form.5]


def _row_maximum(inner: Array) -> Array:
    if inner.dtype.kind == "c":
        return np.take_along_axis(inner, inner.real.argmax(-1)[..., None], -1)[..., 0]
    largest: Array = inner.max(-1)
    return largest


def states(
    inputs: MemoryInputs, w: Weights, state: mLSTMState, before: mLSTMState
) -> tuple[Array, Array | None]:
    """Write C and n before each chunk to ``before``, return those after the last."""
    decay = w.state[..., -1, None]
    source = w.inner[..., -1, :, None] * inputs.k
    np.matmul(source.swapaxes(-1, -2), inputs.v, out=before.C)
    C = _recur(decay[..., None], before.C, state.C)  # [form.6]
    if state.n is None or before.n is None:
        return C, None
    np.sum(source, axis=-2, out=before.n)
    return C, _recur(decay, before.n, state.n)  # [form.7]


def _recur(decay: Array, source: Array, start: Array) -> Array:
    """Iterate y ← decay·y + source over the axis G; each y before replaces the ``source``."""
    for g in range(source.shape[2]):
        now = decay[:, :, g] * start
        now += source[:, :, g]
        source[:, :, g] = start
        start = now
    return start


class Reading(NamedTuple):
    """What one chunk reads from its memory, before the division."""

    scores: Array
    """S_ij = (q_i·k_j) e^(D̃_ij − m_i), then q̄_i = q_i e^(b_i + m₀ − m_i): (…, L, L + DK)."""
    values: Array
    """v_j, then the rows of C₀: (…, L + DK, DV)."""
    keys: Array | None
    """What the scores are multiplied by in q·n: 1, then n₀: (…, L + DK)."""
    den: Denominator | None


def read(inputs: MemoryInputs, before: mLSTMState, w: Weights, eps: float) -> Reading:
    """Scores, values and denominator."""
    q, k, v, *_ = inputs
    *lead, L, DK = q.shape
    scores = np.empty((*lead, L, L + DK), q.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # of later steps, which have no weight
        np.matmul(q, k.swapaxes(-1, -2), out=scores[..., :L])
        _forget(scores[..., :L], w)
    scores[..., :L] *= w.inner  # [form.8]
    np.multiply(q, w.state[..., None], out=scores[..., L:])  # [form.9]
    values = np.concatenate([v, before.C], axis=-2)
    if before.n is None or w.m is None:
        return Reading(scores, values, None, None)
    keys = np.concatenate([np.ones((*lead, L), q.dtype), before.n], axis=-1)
    qn = (scores @ keys[..., None])[..., 0]  # [form.10]
    return Reading(scores, values, keys, denominator(qn, w.m, eps))


def _forget(inner: Array, w: Weights) -> None:
    """Put 0 where a step has no weight: what has overflowed there would be ∞·0."""
    if not np.isfinite(inner).all():
        inner[w.inner == 0] = 0


def forward(
    inputs: MemoryInputs, state: mLSTMState, before: mLSTMState, eps: float
) -> tuple[Array, mLSTMState, Weights]:
    """A group of chunks: h (B, NH, G, L, DV), the state after it, and the weights.

    The states before each chunk are written to ``before``: all that the backward needs besides the
    inputs and the weights.
    """
    e = exponents(inputs.log_i, inputs.log_f)
    m = stabilisers(e, state.m, before.m)
    w = weights(e, before.m)
    C, n = states(inputs, w, state, before)
    reading = read(inputs, before, w, eps)
    h = reading.scores @ reading.values  # [form.11]
    if reading.den is not None:
        h /= reading.den.value[..., None]  # [form.12]
    return h, mLSTMState(C, n, m), w


def backward(
    dh: Array,
    d: StateCotangent,
    inputs: MemoryInputs,
    before: mLSTMState,
    w: Weights,
    eps: float,
) -> tuple[MemoryInputs, StateCotangent]:
    """Back through a group: gradients of its inputs, and of the state before it."""
    (q, k, v, _, _), L = inputs, inputs.q.shape[-2]
    reading = read(inputs, before, w, eps)
    dread = _read_backward(dh, reading, w)
    dv, from_C = dread.values[..., :L, :], dread.values[..., L:, :]
    from_n = None if dread.keys is None else dread.keys[..., L:]
    dafter, d, tau = _states_backward(d, from_C, from_n, dread.tau, w)

    last = w.inner[..., -1, :, None]
    dk_last = v @ dafter.C.swapaxes(-1, -2)
    if dafter.n is not None:
        dk_last += dafter.n[..., None, :]
    dk_last *= last
    dv += (last * k) @ dafter.C  # [form.20]
    dS = dread.scores[..., :L] * w.inner
    dq = dS @ k
    dq += w.state[..., None] * dread.scores[..., L:]  # [form.18]
    dk = dS.swapaxes(-1, -2) @ q
    dk += dk_last  # [form.19]

    inner = np.multiply(dread.scores[..., :L], reading.scores[..., :L], out=dS)  # [form.21]
    inner[..., -1, :] += _dot(k, dk_last)
    state = _dot(dread.scores[..., L:], reading.scores[..., L:])  # [form.22]
    state[..., -1] += w.state[..., -1] * _inner(before, dafter)
    if tau is not None:
        _route(tau, inner, state, w)
    return MemoryInputs(dq, dk, dv, *_exponents_backward(inner, state)), d


class ReadingCotangent(NamedTuple):
    """Cotangents of what a chunk reads."""

    scores: Array
    """A_ij = δnum_i·v_j + δ(q·n)_i, then U_i = C₀ δnum_i + n₀ δ(q·n)_i: (…, L, L + DK)."""
    values: Array
    """Of v_j, then of C₀, what reading adds to them: (…, L + DK, DV)."""
    keys: Array | None
    """The last DK are what reading adds to the cotangent of n₀: (…, L + DK)."""
    tau: Array | None
    """Of m_i, what reading adds to it, shape (…, L); None if that is nothing."""


def _read_backward(dh: Array, reading: Reading, w: Weights) -> ReadingCotangent:
    scores, values, keys, den = reading
    dnum = dh if den is None else dh / den.value[..., None]  # [form.13]
    with np.errstate(over="ignore", invalid="ignore"):
        dscores = dnum @ values.swapaxes(-1, -2)
        _forget(dscores[..., : dh.shape[-2]], w)
    dvalues = scores.swapaxes(-1, -2) @ dnum
    if den is None or keys is None:
        return ReadingCotangent(dscores, dvalues, None, None)
    theta = _dot(scores, dscores)  # [form.14]
    dqn = -den.sign * theta / den.value  # [form.15]
    dscores += dqn[..., None] * keys[..., None, :]
    dkeys = (dqn[..., None, :] @ scores)[..., 0, :]
    residual = den.residual
    tau = None if residual is None else -theta * residual
    return ReadingCotangent(dscores, dvalues, dkeys, tau)


def _states_backward(
    d: StateCotangent, from_C: Array, from_n: Array | None, tau: Array | None, w: Weights
) -> tuple[StateCotangent, StateCotangent, Array | None]:
    """Cotangents of the states after each chunk, of the state before the first, and of all m.

    ``from_C`` and ``from_n`` are what the reading of each chunk adds; they are overwritten.
    """
    backwards, decay = np.s_[:, :, ::-1], w.state[..., -1, None]
    dC = _recur(decay[..., None][backwards], from_C[backwards], d.C)  # [form.16]
    if d.n is None or d.r is None or from_n is None:
        return StateCotangent(from_C, None, None), StateCotangent(dC, None, None), None
    dn = _recur(decay[backwards], from_n[backwards], d.n)  # [form.17]
    r = d.r
    if tau is None and r.any():
        tau = np.zeros_like(w.state)
    if tau is not None:
        for g in reversed(range(tau.shape[2])):
            tau[:, :, g, -1] += r
            r = np.where(carries(w)[:, :, g], tau[:, :, g], 0).sum(-1)
    return StateCotangent(from_C, from_n, None), StateCotangent(dC, dn, r), tau


def carries(w: Weights) -> Array:
    """Where the state before the chunk has the largest exponent of a step, or ties."""
    one: Array = w.state.real == 1
    return one


def _route(tau: Array, inner: Array, state: Array, w: Weights) -> None:
    """Add the cotangent of m_i to that of its largest exponent  [form.23]."""
    carried = carries(w)
    state += np.where(carried, tau, 0)
    first = (w.inner.real == 1).argmax(-1)[..., None]
    to_inner = np.take_along_axis(inner, first, -1) + np.where(carried, 0, tau)[..., None]
    np.put_along_axis(inner, first, to_inner, -1)


def _dot(a: Array, b: Array) -> Array:
    """Inner products along the last axis."""
    product: Array = np.einsum("...i,...i->...", a, b)
    return product


def _inner(before: mLSTMState, dafter: StateCotangent) -> Array:
    """⟨C₀, δC⟩ + ⟨n₀, δn⟩ of each chunk."""
    inner: Array = np.einsum("...ij,...ij->...", before.C, dafter.C)
    if before.n is not None and dafter.n is not None:
        inner += _dot(before.n, dafter.n)
    return inner


def _exponents_backward(inner: Array, state: Array) -> tuple[Array, Array]:
    """Gradients of the log gates from those of the exponents; ``inner`` is overwritten."""
    _sum_down(inner[..., ::-1, :])
    dlog_i = np.diagonal(inner, axis1=-2, axis2=-1).copy()  # [form.24]
    dlog_f = _dot(inner, np.tri(inner.shape[-1], k=-1, dtype=inner.real.dtype))
    dlog_f += np.cumsum(state[..., ::-1], axis=-1)[..., ::-1]  # [form.25]
    return dlog_i, dlog_f
