"""What all forms of mLSTM share: checks, gates, padding, the denominator, and threads.

Without its gates and its denominator, mLSTM is a memory C, n with log gates that queries read. Only
that is computed in different forms. A form is a function ::

    num, qn, ms, state, cache = form(q, k, v, log_i, log_f, state)

of num = Cᵀq, q·n and m at all steps, and the state after the last; the keys have been divided by
√DK, and n, m, qn and ms are None with a sigmoid input gate. Its cache has the way back, ::

    dq, dk, dv, dlog_i, dlog_f, dstate0 = cache.backward(dnum, dqn, tau, q, dstate)

for *any* queries q: the backward reads with q/den, so that num is h and no quotient is left. In the
place of δm, cotangents of states have the gauge residual r, to which each step adds its tau.

Derived in ``docs/derivations/mlstm.md``, whose tags are cited here.
"""

from collections.abc import Callable
from functools import cache as remembered
from typing import Any, NamedTuple, Protocol

import numpy as np

from numpy_xlstm.door import check_cache, check_like
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_choice,
    check_eps,
    check_lengths,
    clip,
    dot,
    maximum,
    modulus,
)
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread
from numpy_xlstm.spec.gates import KINDS, log_gate, log_gate_slope
from numpy_xlstm.spec.mlstm import mLSTMState
from numpy_xlstm.trees import tree_map

WORTH_THREADS = 2**20
"""Numbers in q and v from which on several threads are faster than one."""

Gradients = tuple[Array, Array, Array, Array, Array, mLSTMState]
"""Of q, k, v, of the gates and of the state before the first step."""


class FormCache(Protocol):
    """What a form keeps for its way back."""

    def backward(
        self, dnum: Array, dqn: Array | None, tau: Array | None, q: Array, dstate: mLSTMState
    ) -> Gradients:
        """Gradients of queries, keys, values, log gates and of the state before."""


Form = Callable[..., tuple[Array, Array | None, Array | None, mLSTMState, Any]]


class Denominator(NamedTuple):
    """max(|q·n|, e^−m) + eps of all steps, and what its backward needs: (B, NH, T) each."""

    value: Array
    sign: Array
    """Sign of q·n where |q·n| is the larger argument or ties, else 0."""
    rho: Array
    """Share of h that a change of gauge does change."""


class Part(NamedTuple):
    """What the backward needs of some heads, or some rows of the batch, which a thread does."""

    where: tuple[slice, slice]
    q: Array
    i: Array
    f: Array
    before: mLSTMState
    after: mLSTMState
    den: Denominator | None
    form: FormCache


class Cache(NamedTuple):
    """What the backward of mLSTM needs. It refers to the inputs and to h: change none before."""

    h: Array
    live: Array | None
    """Which steps are there, (B, 1, T); None if all are."""
    forget_gate: str
    input_gate: str
    parts: list[Part]


def run(
    form: Form,
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: mLSTMState | None,
    lengths: Array | None,
    options: tuple[float, str, str],
    threads: int = 1,
) -> tuple[Array, mLSTMState, Cache]:
    """Run mLSTM in a form, without checks; ``options`` are eps, forget_gate and input_gate."""
    T = q.shape[2]
    eps, forget_gate, input_gate = options
    before = empty_state(q, v, input_gate) if state is None else state
    live = None if lengths is None else (np.arange(T) < lengths[:, None])[:, None]

    def one(where: tuple[slice, slice]) -> tuple[Array, Part]:
        rows = None if live is None else live[where[0]]
        arrays, start = (a[where] for a in (q, k, v, i, f)), _slice(before, where)
        inputs = _to_memory(*arrays, rows, forget_gate, input_gate)
        h, qn, ms, after, cache = form(*inputs, start)
        den = None if qn is None or ms is None else denominator(qn, ms, eps)
        if den is not None:
            h /= den.value[..., None]  # [mlstm.10]
        part = Part(where, inputs[0], i[where], f[where], start, after, den, cache)
        return (h if rows is None else np.where(rows[..., None], h, 0)), part

    axis = _axis(q)
    cuts = spread(q.shape[axis], threads)
    places = [(cut, slice(None)) if axis == 0 else (slice(None), cut) for cut in cuts]
    found = parallel_map(one, places)
    h, parts = _join([h for h, _ in found], axis), [part for _, part in found]
    after = _join_states([part.after for part in parts], axis)
    return h, after, Cache(h, live, forget_gate, input_gate, parts)


def run_backward(dh: Array, cache: Cache, dstate: mLSTMState | None) -> Gradients:
    """Go back in the form that the forward took, without checks."""
    h, live, forget_gate, input_gate, parts = cache

    def one(part: Part) -> Gradients:
        where, q, i, f, before, after, den, form = part
        dh_part, rows = dh[where], None if live is None else live[where[0]]
        if rows is not None:
            dh_part = np.where(rows[..., None], dh_part, 0)
        d = tree_map(np.zeros_like, after) if dstate is None else _slice(dstate, where)
        d = _with_residual(d, after, -1)  # [stab.6]
        if den is None:
            dq, dk, dv, dlog_i, dlog_f, d = form.backward(dh_part, None, None, q, d)
        else:
            theta = dot(dh_part, h[where])[..., 0]
            dqn, tau = -den.sign * theta, -den.rho * theta  # [mlstm.11]
            q_read = q / den.value[..., None]
            dq, dk, dv, dlog_i, dlog_f, d = form.backward(dh_part, dqn, tau, q_read, d)
            dq /= den.value[..., None]
        di = dlog_i * log_gate_slope(i, input_gate)
        df = dlog_f * log_gate_slope(f, forget_gate)
        if rows is not None:
            di, df = np.where(rows, di, 0), np.where(rows, df, 0)
        dk *= _key_scale(q)
        return dq, dk, dv, di, df, _with_residual(d, before, 1)  # [stab.8]

    found = parallel_map(one, parts)
    axis = _axis(h)
    dq, dk, dv, di, df = (_join([part[n] for part in found], axis) for n in range(5))
    return dq, dk, dv, di, df, _join_states([part[5] for part in found], axis)


def denominator(qn: Array, m: Array, eps: float) -> Denominator:
    """Form max(|q·n|, e^−m) + eps, with e^−m a normal number of the format."""
    clipped = clip(m)
    floor = np.exp(-clipped)
    active = modulus(qn).real >= floor.real
    value = maximum(modulus(qn), floor) + eps  # [mlstm.9]
    rho = np.where((clipped != m) & ~active, 1, eps / value)
    return Denominator(value, np.sign(qn.real) * active, rho)


def carried(log_f: Array, m_before: Array, m: Array) -> Array:
    """e^(log f + m₋ − m): what is left of the state before, divided by e^m.

    m₋ − m is taken first. It has an error like that of log f; log f + m₋ has one like that of m₋,
    which may be far larger. Where nothing has come yet, m is −inf, and nothing carries on as it is.
    """
    empty = m.real == -np.inf
    past = np.where(empty, 0, m_before) - np.where(empty, 0, m)
    return np.exp(log_f + past)


def _to_memory(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    live: Array | None,
    forget_gate: str,
    input_gate: str,
) -> tuple[Array, Array, Array, Array, Array]:
    """Divide the keys by √DK, take the logs of the gates; a step that is not there adds nothing."""
    log_i, log_f = log_gate(i, input_gate), log_gate(f, forget_gate)
    k = k * _key_scale(k)  # [mlstm.3]
    if live is not None:
        q, k, v = (np.where(live[..., None], array, 0) for array in (q, k, v))
        log_i, log_f = np.where(live, log_i, -np.inf), np.where(live, log_f, 0)
    return q, k, v, log_i, log_f


def _key_scale(k: Array) -> Any:
    """1/√DK in the precision of the keys."""
    return 1 / np.sqrt(k.real.dtype.type(k.shape[-1]))


def _with_residual(d: mLSTMState, state: mLSTMState, sign: int) -> mLSTMState:
    """Cotangent of a state from δm to r = δm − ⟨C, δC⟩ − ⟨n, δn⟩, or back with the sign 1."""
    if d.n is None or d.m is None or state.n is None:
        return d
    inner = np.einsum("bhkv,bhkv->bh", state.C, d.C) + dot(state.n, d.n)[..., 0]
    return mLSTMState(d.C, d.n, d.m + sign * inner)


def empty_state(q: Array, v: Array, input_gate: str) -> mLSTMState:
    """C = n = 0 and m = −inf."""
    B, NH, _, DK = q.shape
    C = np.zeros((B, NH, DK, v.shape[-1]), q.dtype)
    if input_gate == "sigmoid":
        return mLSTMState(C, None, None)
    return mLSTMState(C, np.zeros((B, NH, DK), q.dtype), np.full((B, NH), -np.inf, q.dtype))


def check_inputs(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: Any,
    lengths: Array | None,
    options: tuple[Any, Any, Any],
) -> tuple[mLSTMState, Array | None, tuple[float, str, str]]:
    """Return state, lengths and options, or raise an error that names what does not fit."""
    eps, forget_gate, input_gate = options
    check_choice("forget_gate", forget_gate, KINDS)
    check_choice("input_gate", input_gate, KINDS)
    check_array("q", q, ("batch", "heads", "time", "DK"))
    B, NH, T, DK = q.shape
    check_array("k", k, (B, NH, T, DK), q.dtype)
    check_array("v", v, (B, NH, T, "DV"), q.dtype)
    check_array("i", i, (B, NH, T), q.dtype)
    check_array("f", f, (B, NH, T), q.dtype)
    if 0 in (B, NH, DK, v.shape[-1]):
        raise ShapeError(
            f"q, v: expected at least 1 along batch, heads, DK and DV; got {q.shape}, {v.shape}"
        )
    before = empty_state(q, v, input_gate)
    if state is not None:
        before = check_like("state", state, before)
    if lengths is not None:
        lengths = check_lengths(lengths, B, T)
    return before, lengths, (check_eps(eps), forget_gate, input_gate)


def backward(dh: Array, cache: Any, dstate: Any, kind: type) -> Gradients:
    """Check the cache, which is to be that of a form, and both cotangents, and go back."""
    check_cache(cache, Cache)
    check_cache(cache.parts[0].form, kind)
    check_array("dh", dh, cache.h.shape, cache.h.dtype)
    if dstate is not None:
        axis = _axis(cache.h)
        dstate = check_like("dstate", dstate, _join_states([p.after for p in cache.parts], axis))
    return run_backward(dh, cache, dstate)


def _axis(h: Array) -> int:
    """The axis along which threads share the work: the heads, or the batch if that is longer."""
    return 0 if h.shape[0] > h.shape[1] else 1


def _slice(state: mLSTMState, where: tuple[slice, slice]) -> mLSTMState:
    part: mLSTMState = tree_map(lambda array: array[where], state)
    return part


def _join(arrays: list[Array], axis: int) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis)


def _join_states(states: list[mLSTMState], axis: int) -> mLSTMState:
    n = None if states[0].n is None else _join([state.n for state in states], axis)
    m = None if states[0].m is None else _join([state.m for state in states], axis)
    return mLSTMState(_join([state.C for state in states], axis), n, m)
