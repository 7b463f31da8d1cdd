"""mLSTM in any form: gates, stabiliser, denominator and padding, which all forms have in common.

Layers and models call :func:`forward` and :func:`backward`, which do not validate.

n is stored as an additional column of C, whose v is 1. So q·n is an additional entry of Cᵀq. First
the gates are stabilised: i′ = i e^(−m), and f′ = f e^(m₋ − m). The remaining computation is ::

    C = f′ C₋ + i′ k vᵀ,  num = Cᵀq

and each form computes it in a different way. A form is a function ::

    num, C, cache = form(q, k, v, log_i, log_f, C)

of keys that have been divided by √DK, and of the logs of the gates. Rows and heads are one axis of
N = B·NH, the first. The logs are at least float64, because an absolute error of x is a relative
error of e^x. The cache has a method for the backward. It gets q/den instead of q, and as dnum the
cotangent of h = num/den. ::

    dq, dk, dv, dlog_i, dlog_f, dC = cache.backward(dnum, q_by_den, dC)

Derived in ``docs/derivations/mlstm.md`` and ``docs/derivations/stabiliser.md``.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.gates import log_gate, log_gate_slope, root, underflows
from numpy_xlstm.cells.mlstm import EPS, mLSTMState
from numpy_xlstm.kernels.functions import kernel, maximum, where
from numpy_xlstm.kernels.mlstm.chunkwise import CHUNK_SIZE, chunks
from numpy_xlstm.kernels.mlstm.step import steps
from numpy_xlstm.kernels.parts import (
    for_loops,
    join_heads,
    over_heads,
    padding,
    split_heads,
)
from numpy_xlstm.numerics import Array, clip, dot, modulus

FORMS = ("auto", "recurrent", "parallel", "chunkwise")
"""Values of the option ``form`` of a layer."""

Arrays = tuple[Array, ...]
Gradients = tuple[Array, Array, Array, Array, Array, mLSTMState]
"""Gradients of q, k, v, ĩ, f̃ and of the state before the first step."""


class Cache(NamedTuple):
    """Residuals of an mLSTM. They refer to inputs, h and states."""

    h: Array
    q: Array
    i_pre: Array
    f_pre: Array
    options: tuple[Any, ...]  # eps, forget_gate and input_gate
    live: Array | None  # False in padding, (N, T); None if there is none
    qn: Any  # (N, T); like ms and past, None with a sigmoid input gate
    ms: Any  # m, (N, T)
    past: Any  # where log f + m₋ is the maximum or ties
    form: Any


def forward(
    q: Array,
    k: Array,
    v: Array,
    i_pre: Array,
    f_pre: Array,
    state: mLSTMState,
    *,
    form: str = "auto",
    lengths: Array | None = None,
    chunk_size: int = CHUNK_SIZE,
    eps: float = EPS,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, Cache]:
    """Run an mLSTM over q, k, v (B, T, NH·n) and ĩ, f̃ (B, T, NH); h has the shape of v.

    The other arguments are as in :func:`mlstm_chunkwise`.
    """
    q, k, v = (split_heads(array, i_pre.shape[-1]) for array in (q, k, v))
    pre = i_pre.swapaxes(1, 2), f_pre.swapaxes(1, 2)
    if form == "auto":
        form = "recurrent" if q.shape[2] < 2 else "chunkwise"
    options = eps, forget_gate, input_gate
    h, state, cache = run(form, (q, k, v, *pre), state, lengths, options, chunk_size)
    return join_heads(h), state, cache


def backward(dh: Array, cache: Cache, dstate: mLSTMState) -> Gradients:
    """Return the gradients of q, k, v, ĩ, f̃ and of the first state, in their shapes."""
    *dqkv, di_pre, df_pre, dstate0 = run_backward(split_heads(dh, cache.q.shape[1]), cache, dstate)
    dq, dk, dv = (join_heads(array) for array in dqkv)
    return dq, dk, dv, di_pre.swapaxes(1, 2), df_pre.swapaxes(1, 2), dstate0


def run(
    form: str,
    arrays: Arrays,
    state: Any,
    lengths: Any,
    options: tuple[Any, ...],
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Array, mLSTMState, Cache]:
    """Run an mLSTM over q, k, v (B, NH, T, n) and ĩ, f̃ (B, NH, T) in a form."""
    q, k, v, i_pre, f_pre = arrays
    _, NH, T, DK = k.shape
    C, n, m = of_each(joined, state)
    k = np.multiply(k, 1 / root(DK, k), order="C")  # [mlstm.3]
    v = v if n is None else with_column(v, 1)
    q, k, v, i_pre, f_pre = (joined(array) for array in (q, k, v, i_pre, f_pre))
    eps, forget_gate, input_gate = options
    wide = np.result_type(i_pre, np.float64)
    log_i = log_gate(i_pre, input_gate).astype(wide)
    log_f = log_gate(f_pre, forget_gate).astype(wide)
    live: Any = None
    qn: Any = None
    ms: Any = None
    past: Any = None
    if lengths is not None:
        live = np.repeat(~padding(lengths, T), NH, axis=0)
        log_i, log_f = np.where(live, log_i, -np.inf), np.where(live, log_f, 0)
        q, k, v = (np.where(live[..., None], array, 0) for array in (q, k, v))
    log_iprime, log_fprime = log_i, log_f
    if n is not None:
        C = with_column(C, n)
        log_iprime, log_fprime, ms, past = stabilise(log_i, log_f, m)
        ms = ms.astype(q.dtype)
    elif forget_gate == "exp":
        log_fprime = without_empty(log_i, log_f, k, v, C)
    size = 0 if form == "parallel" else chunk_size
    compute = steps if form == "recurrent" else partial(chunks, chunk_size=size)
    num, C_after, kept = compute(q, k, v, log_iprime, log_fprime, C)
    if n is None:
        h, after = num, mLSTMState(C_after, None, None)
    else:
        qn = num[..., -1].copy()
        h = num[..., :-1] / denominator_and_slopes(qn, ms, eps)[0][..., None]  # [mlstm.13]
        m = (ms[:, -1] if T else m).copy()
        after = mLSTMState(C_after[..., :-1].copy(), C_after[..., -1].copy(), m)
    if live is not None:
        h = np.where(live[..., None], h, 0)
    h, (q, _, _, i_pre, f_pre) = separate(h, NH), arrays
    after = of_each(partial(separate, NH=NH), after)
    return h, after, Cache(h, q, i_pre, f_pre, options, live, qn, ms, past, kept)


def run_backward(dh: Array, cache: Cache, dstate: Any) -> Gradients:
    """Compute the gradients of :func:`run`; those of the recurrent form by chunks."""
    *arrays, (eps, forget_gate, input_gate), live, qn, ms, past, form = cache
    NH, (h, q, i_pre, f_pre) = dh.shape[1], (joined(array) for array in arrays)
    dh, dlast = joined(dh), of_each(joined, dstate)
    if live is not None:
        dh, q = (np.where(live[..., None], array, 0) for array in (dh, q))
    if ms is None:
        dq, dk, dv, dlog_i, dlog_f, dC = form.backward(dh, q, dlast.C)
        dstate0 = mLSTMState(dC, None, None)
    else:
        den, sign, floor = denominator_and_slopes(qn, ms, eps)
        S = dot(dh, h)[..., 0]  # [mlstm.18]
        dnum, q_by_den = with_column(dh, -sign * S), q / den[..., None]  # [mlstm.19]
        dC_last = with_column(*dlast[:2])
        dq, dk, dv, dlog_iprime, dlog_fprime, dC = form.backward(dnum, q_by_den, dC_last)
        dq /= den[..., None]
        dlog_i, dlog_f, dm = through_stabiliser(past, dlog_iprime, dlog_fprime, floor * S, dlast.m)
        dv, dstate0 = dv[..., :-1], mLSTMState(dC[..., :-1], dC[..., -1], dm)
    dk *= 1 / root(dk.shape[-1], dk)
    di_pre = dlog_i * log_gate_slope(i_pre, input_gate)
    df_pre = dlog_f * log_gate_slope(f_pre, forget_gate)
    if live is not None:
        di_pre, df_pre = np.where(live, di_pre, 0), np.where(live, df_pre, 0)
    apart = partial(separate, NH=NH)
    dq, dk, dv, di_pre, df_pre = map(apart, (dq, dk, dv, di_pre, df_pre))
    return dq, dk, dv, di_pre, df_pre, of_each(apart, dstate0)


def joined(array: Array) -> Array:
    """Return (B, NH, …) as (N, …), for compiled loops."""
    B, NH, *rest = array.shape
    return for_loops(array.reshape(B * NH, *rest))


def separate(array: Array, NH: int) -> Array:
    """Return (N, …) as (B, NH, …)."""
    return array.reshape(len(array) // NH, NH, *array.shape[1:])


def of_each(change: Callable[[Array], Array], state: Iterable[Any]) -> Any:
    """Return a state with a function applied to C, n and m; n and m may be None."""
    return mLSTMState._make(None if array is None else change(array) for array in state)


def denominator_and_slopes(qn: Array, m: Array, eps: float) -> tuple[Array, Array, Array]:
    """Return max(|q·n|, e^−m) + eps, the sign of q·n or 0, and e^−m / denominator or 0.

    Where e^−m is the larger of the two, the sign is 0. Elsewhere, and where e^−m is clipped, the
    last result is 0.
    """
    clipped = clip(m)
    floor = np.exp(-clipped)
    den = maximum(modulus(qn), floor) + eps  # [mlstm.12]
    wins = modulus(qn).real >= floor.real
    return den, np.sign(qn.real) * wins, np.where(wins | (clipped != m), 0, floor / den)


def stabilise(log_i: Array, log_f: Array, m: Any) -> tuple[Array, ...]:
    """Return the logs of i′ and f′, m of all steps, and where log f + m₋ is m.

    While the memory is empty, m is −inf, and i′ and f′ are i and f.
    """
    ms = np.concatenate([m[:, None], log_i], axis=1)
    over_heads(stabilisers, log_i.size, log_i, log_f, ms)
    A, m = log_f + ms[:, :-1], ms[:, 1:]  # [stab.3]
    past, empty = A.real >= log_i.real, m.real == -np.inf
    shift = np.where(empty, 0, m)
    return log_i - shift, np.where(empty, log_f, A - shift), m, past  # [stab.6] [stab.7]


def without_empty(log_i: Array, log_f: Array, k: Array, v: Array, C: Array) -> Array:
    """Return log f, replaced by −∞ while the memory is 0 if its weight would overflow  [stab.4]."""
    written = (np.exp(log_i).astype(C.dtype) != 0) & k.any(axis=-1) & v.any(axis=-1)
    written = np.concatenate([C.any(axis=(1, 2)).reshape(-1, 1), written], axis=1)
    empty = ~np.logical_or.accumulate(written, axis=1)[:, :-1]  # before each step
    b = np.cumsum(log_f.real, axis=1)
    start = np.minimum.accumulate(np.where(empty, b - log_f.real, np.inf), axis=1)
    lost = underflows((start - b).astype(C.real.dtype)).any(axis=1, keepdims=True)
    return np.where(lost & empty, -np.inf, log_f)


@kernel
def stabilisers(n: Any, log_i: Any, log_f: Any, ms: Any) -> None:
    """Write m after each step; the first m is that before the first step."""
    for t in range(log_i.shape[1]):
        ms[n, t + 1] = maximum(log_f[n, t] + ms[n, t], log_i[n, t])  # [stab.5]


def through_stabiliser(
    past: Array, di: Array, df: Array, dfloor: Array, dm: Array
) -> tuple[Array, Array, Array]:
    """Return the gradients of the logs of the gates and of the m before the first step.

    ``di`` and ``df`` are i′δi′ and f′δf′, and ``dfloor`` is the part of δm from the denominator.
    One of i′ and f′ is the constant 1, and so has no gradient of its own.
    """
    own, dm, past = np.where(past, di, df), dm.copy(), for_loops(past)
    by_m = dfloor - own
    over_heads(back_through_stabilisers, own.size, own, past, by_m, dm)
    return np.where(past, own, by_m), np.where(past, by_m, own), dm  # [stab.8]


@kernel
def back_through_stabilisers(n: Any, own: Any, past: Any, by_m: Any, dm: Any) -> None:
    """Add the gradients from later steps to ``by_m``; update dm to that of the first m."""
    for t in range(own.shape[1] - 1, -1, -1):
        by_m[n, t] += dm[n]
        dm[n] = where(past[n, t], by_m[n, t], own[n, t])  # [stab.9] [stab.10]


def with_column(matrix: Array, column: Array | int) -> Array:
    """Return a matrix (…, N) with an additional column (…), in C-order."""
    wide = np.empty((*matrix.shape[:-1], matrix.shape[-1] + 1), matrix.dtype)
    wide[..., :-1], wide[..., -1] = matrix, column
    return wide
