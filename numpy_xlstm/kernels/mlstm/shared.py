"""What all forms of mLSTM share: gates, the stabiliser, the denominator, padding and checks.

n is one more column of C, that of a value 1, and q·n one more column of what is read. The gates are
divided by e^m before all else. What is left is a matrix C, gates and queries, ::

    C = f′ C₋ + i′ k vᵀ,  num = Cᵀq

and only that is computed in different forms. A form is a function ::

    num, C, cache = form(q, k, v, log_i, log_f, C)

of the keys that have been divided by √DK and the logs of the gates, which are float64 at least:
the error of an exponent is a relative error of its power. Its cache has the way back,
for any queries q: the backward reads with q/den, so that num is h and nothing is to be divided. ::

    dq, dk, dv, dlog_i, dlog_f, dC = cache.backward(dnum, q, dC)

Derived in ``docs/derivations/mlstm.md`` and ``docs/derivations/stabiliser.md``.
"""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.gates import KINDS, log_gate, log_gate_slope, root
from numpy_xlstm.cells.mlstm import empty_memory, mLSTMState
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.kernels.functions import compiled, kernel, maximum, where
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_choice,
    check_eps,
    check_lengths,
    dot,
    own_error_state,
)
from numpy_xlstm.numerics.activations import clip, modulus
from numpy_xlstm.numerics.threads import parallel_map, spread
from numpy_xlstm.trees import tree_map
from numpy_xlstm.validation import check_cache, check_like

Arrays = tuple[Array, ...]
Gradients = tuple[Array, Array, Array, Array, Array, mLSTMState]
"""Of q, k, v, i, f and of the state before the first step."""

Heads = tuple[Any, Any]
"""An index of the axes of rows and heads: one of each, or slices."""


class Cache(NamedTuple):
    """What the backward needs. It refers to inputs, h and states: change none of them before."""

    h: Array
    q: Array
    i: Array
    f: Array
    options: tuple[Any, ...]  # eps, forget_gate and input_gate
    live: Array | None  # which steps are there, (B, 1, T); None if all are
    qn: Array  # (B, NH, T)
    ms: Any  # (B, NH, T), as past; None with a sigmoid input gate
    past: Any  # where log f + m₋ is the larger argument of m, or ties
    form: Any


def run(
    form: Any, arrays: Arrays, state: Any, lengths: Any, options: tuple[Any, ...]
) -> tuple[Array, mLSTMState, Cache]:
    """Run mLSTM over q, k, v, i and f in a form, without checks."""
    q, k, v, i, f = arrays
    eps, forget_gate, input_gate = options
    C, n, m = state
    wide = np.result_type(i, np.float64)
    log_i, log_f = log_gate(i, input_gate).astype(wide), log_gate(f, forget_gate).astype(wide)
    live: Any = None
    ms: Any = None
    past: Any = None
    k = k * (1 / root(k.shape[-1], k))  # [mlstm.3]
    if lengths is not None:
        live = (np.arange(q.shape[2]) < lengths[:, None])[:, None]
        log_i, log_f = np.where(live, log_i, -np.inf), np.where(live, log_f, 0)
        q, k, v = (np.where(live[..., None], array, 0) for array in (q, k, v))
    if n is not None:
        C, v = with_column(C, n), with_column(v, np.ones_like(i))
        log_i, log_f, ms, past = stabilise(log_i, log_f, m)
        ms = ms.astype(q.dtype)
    h, C_after, cache = form(q, k, v, log_i, log_f, C)
    qn, after = h[..., -1].copy(), mLSTMState(C_after, None, None)
    if n is not None:
        m = np.array(ms[..., -1] if ms.shape[-1] else m)
        h = h[..., :-1] / denominator(qn, ms, eps)[0][..., None]  # [mlstm.13]
        after = mLSTMState(C_after[..., :-1].copy(), C_after[..., -1].copy(), m)
    if live is not None:
        h = np.where(live[..., None], h, 0)
    return h, after, Cache(h, q, i, f, options, live, qn, ms, past, cache)


def run_backward(dh: Array, cache: Cache, dstate: Any) -> Gradients:
    """Go back in the form that the forward took, without checks."""
    h, q, i, f, (eps, forget_gate, input_gate), live, qn, ms, past, form = cache
    if live is not None:
        dh = np.where(live[..., None], dh, 0)
    if ms is None:
        dq, dk, dv, dlog_i, dlog_f, dC = form.backward(dh, q, dstate.C)
        dstate0 = mLSTMState(dC, None, None)
    else:
        dC = with_column(dstate.C, dstate.n)
        den, sign, floor = denominator(qn, ms, eps)
        S = dot(dh, h)[..., 0]  # [mlstm.18]
        dh, q = with_column(dh, -sign * S), q / den[..., None]  # [mlstm.19]
        dq, dk, dv, dlog_i, dlog_f, dC = form.backward(dh, q, dC)
        dq /= den[..., None]
        dv = dv[..., :-1]
        dlog_i, dlog_f, dm = through_stabiliser(past, dlog_i, dlog_f, floor * S, dstate.m)
        dstate0 = mLSTMState(dC[..., :-1], dC[..., -1], dm)
    dk *= 1 / root(dk.shape[-1], dk)
    di, df = dlog_i * log_gate_slope(i, input_gate), dlog_f * log_gate_slope(f, forget_gate)
    if live is not None:
        di, df = np.where(live, di, 0), np.where(live, df, 0)
    return dq, dk, dv, di, df, dstate0


def denominator(qn: Array, m: Array, eps: float) -> tuple[Array, Array, Array]:
    """max(|q·n|, e^−m) + eps, the sign of q·n where it wins, and the floor's share where not."""
    clipped = clip(m)
    floor = np.exp(-clipped)
    den = maximum(modulus(qn), floor) + eps  # [mlstm.12]
    wins = modulus(qn).real >= floor.real
    return den, np.sign(qn.real) * wins, np.where(wins | (clipped != m), 0, floor / den)


def stabilise(log_i: Array, log_f: Array, m: Any) -> tuple[Array, ...]:
    """Return the logs of the gates divided by e^m, m at all steps, and where the past wins it.

    Where nothing has come yet, m is −inf, and nothing is divided.
    """
    log_i, log_f = time_first(log_i).copy(), time_first(log_f).copy()
    ms = np.concatenate([m[None], log_i])
    over_time(stabilisers, ms[0], log_i, log_f, ms[1:])
    A, m = log_f + ms[:-1], ms[1:]  # [stab.10]
    past, empty = A.real >= log_i.real, m.real == -np.inf
    shift = np.where(empty, 0, m)
    log_i, log_f = log_i - shift, np.where(empty, log_f, A - shift)  # [stab.4] [stab.5]
    return tuple(a.transpose(1, 2, 0).copy() for a in (log_i, log_f, m, past))


@kernel
def stabilisers(m: Any, log_i: Any, log_f: Any, ms: Any) -> Any:
    """Write m after each step, and return the last one."""
    for t in range(len(log_i)):
        m = maximum(log_f[t] + m, log_i[t])  # [stab.3]
        ms[t] = m
    return m


def through_stabiliser(
    past: Array, di: Array, df: Array, dfloor: Array, dm: Array
) -> tuple[Array, Array, Array]:
    """Return the gradients of the logs of the gates and of the m before the first step.

    ``di`` and ``df`` are i′δi′ and f′δf′, ``dfloor`` is the denominator's part of δm. Only the
    gate that is not 1 has a gradient of its own: the log of the other one is m.
    """
    own = np.where(past, di, df)
    steps = [time_first(a).copy() for a in (past, own, dfloor - own)]
    dm = over_time(back_through_stabilisers, dm, *steps)
    by_m = steps[2].transpose(1, 2, 0)
    return np.where(past, own, by_m), np.where(past, by_m, own), dm  # [stab.12]


@kernel
def back_through_stabilisers(dm: Any, past: Any, own: Any, by_m: Any) -> Any:
    """Add to ``by_m`` the gradients from later steps, and return the one of the first m."""
    for t in range(len(own) - 1, -1, -1):
        by_m[t] += dm
        dm = where(past[t], by_m[t], own[t])  # [stab.13] [stab.14]
    return dm


def over_time(function: Any, start: Array, *arrays: Array) -> Array:
    """Call a kernel on (B, NH) and (T, B, NH): for each row and head if it is compiled, or all."""
    run, heads = way(function, start)
    after = np.empty_like(start)
    for one in heads:
        after[one] = run(start[one], *(array[:, *one] for array in arrays))
    return after


def over_heads(function: Any, work: Any, like: Array, threads: int) -> None:
    """Call ``work`` with what :func:`way` returns, on some threads."""
    run, heads = way(function, like, threads)

    def some(part: slice) -> None:
        for one in heads[part]:
            work(run, one)

    if len(heads) == 1 and run is not function:
        work(run, heads[0])  # BLAS may use the threads
    else:
        parallel_map(some, spread(len(heads), threads))


def way(function: Any, like: Array, parts: int = 1) -> tuple[Any, list[Heads]]:
    """Return what runs a kernel and which heads it takes in a call.

    These are one of one row if the kernel is compiled, or else in as many slices as there are parts
    those of all rows.
    """
    B, NH = like.shape[:2]
    if compiled(like.dtype):
        return function, list(np.ndindex(B, NH))
    slices = spread(NH, parts) if parts > 1 else [slice(None)]
    return function.__wrapped__, [(slice(None), part) for part in slices]


def time_first(array: Array) -> Array:
    """Return a view of (B, NH, T, …) as (T, B, NH, …)."""
    return array.transpose(2, 0, 1, *range(3, array.ndim))


def contiguous(*arrays: Array) -> tuple[Array, ...]:
    """Return arrays as compiled kernels want them, or as they are where none is compiled."""
    if not compiled(arrays[0].dtype):
        return arrays
    return tuple(np.require(array, requirements=("C", "W")) for array in arrays)


def with_column(matrix: Array, column: Array) -> Array:
    """Matrix (…, N) with one more column (…)."""
    return np.concatenate([matrix, column[..., None]], axis=-1)


def inner_product(a: Array, b: Array) -> Array:
    """Sum of products of two matrices, for each batch row and head."""
    lead = a.shape[:2]
    product: Array = dot(a.reshape(*lead, -1), b.reshape(*lead, -1))[..., 0]
    return product


@own_error_state
def checked_run(
    form: Any, arrays: Arrays, state: Any, lengths: Any, options: tuple[Any, ...]
) -> tuple[Array, mLSTMState, Cache]:
    """Run a form, or raise an error that names what does not fit."""
    q, k, v, i, f = arrays
    check_eps(options[0])
    check_choice("forget_gate", options[1], KINDS)
    check_choice("input_gate", options[2], KINDS)
    B, NH, T, DK = check_array("q", q, ("batch", "heads", "time", "DK")).shape
    check_array("k", k, (B, NH, T, DK), q.dtype)
    check_array("v", v, (B, NH, T, "DV"), q.dtype)
    check_array("i", i, (B, NH, T), q.dtype)
    check_array("f", f, (B, NH, T), q.dtype)
    if 0 in (B, NH, DK, v.shape[-1]):
        raise ShapeError(
            f"q, v: expected at least 1 along batch, heads, DK and DV; got {q.shape}, {v.shape}"
        )
    empty = empty_memory((B, NH, DK, v.shape[-1]), q.dtype, options[2])
    state = empty if state is None else check_like("state", state, empty)
    lengths = None if lengths is None else check_lengths(lengths, B, T)
    return run(form, arrays, state, lengths, options)


@own_error_state
def checked_backward(dh: Array, cache: Any, dstate: Any, kind: type) -> Gradients:
    """Check the cache, which is to be that of a form, and both cotangents, and go back."""
    check_cache(cache, Cache)
    check_cache(cache.form, kind)
    check_array("dh", dh, cache.h.shape, cache.h.dtype)
    shape = *cache.q.shape[:2], cache.q.shape[-1], cache.h.shape[-1]
    empty = empty_memory(shape, dh.dtype, cache.options[2])
    zero = tree_map(np.zeros_like, empty)
    return run_backward(dh, cache, zero if dstate is None else check_like("dstate", dstate, empty))
