"""mLSTM in any form: gates, stabiliser, denominator and padding, which all forms have in common.

Layers and models call :func:`forward` and :func:`backward`, which do not validate.

A form is one way to compute ::

    C = f C₋ + i k vᵀ,  num = Cᵀq

over all steps. It is a function, and its cache has a method for the backward::

    num, C, cache = form(q, k, v, log_i, log_f, C)
    dq, dk, dv, dlog_i, dlog_f, dC = cache.backward(dnum, q, dC)

Rows and heads are one axis of N = B·NH, the first. Keys have been divided by √DK. The logs of the
gates are at least float64, because an absolute error of x is a relative error of e^x.

With a sigmoid input gate, num is h. With an exponential one, :func:`normalised` calls the form with
the stabilised gates i′ = i e^(−m) and f′ = f e^(m₋ − m), and with n as an additional column of C,
whose v is 1. So q·n is the last entry of num, and h is the others, divided by the denominator.

Derived in ``docs/derivations/mlstm.md`` and ``docs/derivations/stabiliser.md``.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.gates import log_gate, log_gate_slope, root, underflows
from numpy_xlstm.cells.mlstm import EPS, mLSTMState
from numpy_xlstm.kernels.common import (
    for_loops,
    join_heads,
    over_heads,
    padding,
    split_heads,
)
from numpy_xlstm.kernels.functions import kernel, maximum, where
from numpy_xlstm.kernels.mlstm.chunkwise import CHUNK_SIZE, chunks
from numpy_xlstm.kernels.mlstm.step import steps
from numpy_xlstm.numerics import Array, clip, dot, modulus

FORMS = ("auto", "recurrent", "parallel", "chunkwise")
"""Values of the option ``form`` of a layer."""

EXPONENTS: ContextVar[Any] = ContextVar("EXPONENTS", default=np.float64)
"""Least dtype of the logs of the gates. The conformance kit lowers it to that of a port."""

Arrays = tuple[Array, ...]
Gradients = tuple[Array, Array, Array, Array, Array, mLSTMState]
"""Gradients of q, k, v, ĩ, f̃ and of the state before the first step."""


class Options(NamedTuple):
    """Options of an mLSTM, as in :func:`mlstm_recurrent`."""

    eps: float
    forget_gate: str
    input_gate: str


class Normaliser(NamedTuple):
    """Residuals of n and m, each of shape (N, T)."""

    qn: Array  # q·n
    m: Array  # after each step
    past: Array  # where log f + m₋ is the maximum or ties


class Cache(NamedTuple):
    """Residuals of an mLSTM. They refer to inputs, h and states."""

    h: Array
    q: Array
    i_pre: Array
    f_pre: Array
    options: Options
    live: Array | None  # False in padding, (N, T); None if there is none
    normaliser: Normaliser | None  # None with a sigmoid input gate
    form: Any  # cache of the form


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
    options = Options(eps, forget_gate, input_gate)
    h, state, cache = run_form(form, (q, k, v, *pre), state, lengths, options, chunk_size)
    return join_heads(h), state, cache


def backward(dh: Array, cache: Cache, dstate: mLSTMState) -> Gradients:
    """Return the gradients of q, k, v, ĩ, f̃ and of the first state, in their shapes."""
    *dqkv, di_pre, df_pre, dstate0 = run_form_backward(
        split_heads(dh, cache.q.shape[1]), cache, dstate
    )
    dq, dk, dv = (join_heads(array) for array in dqkv)
    return dq, dk, dv, di_pre.swapaxes(1, 2), df_pre.swapaxes(1, 2), dstate0


def run_form(
    form: str,
    arrays: Arrays,
    state: Any,
    lengths: Any,
    options: Options,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Array, mLSTMState, Cache]:
    """Run an mLSTM over q, k, v (B, NH, T, n) and ĩ, f̃ (B, NH, T) in a form."""
    q, k, v, i_pre, f_pre = arrays
    _, NH, T, DK = k.shape
    k = np.multiply(k, 1 / root(DK, k), order="C")  # [mlstm.3]
    v = with_column(v, 1) if options.input_gate == "exp" else v
    q, k, v, i, f = (joined(array) for array in (q, k, v, i_pre, f_pre))
    state = map_state(joined, state)
    wide = np.result_type(i, EXPONENTS.get())
    log_i = log_gate(i, options.input_gate).astype(wide)
    log_f = log_gate(f, options.forget_gate).astype(wide)
    live = None
    if lengths is not None:
        live = np.repeat(~padding(lengths, T), NH, axis=0)
        log_i, log_f = np.where(live, log_i, -np.inf), np.where(live, log_f, 0)
        q, k, v = (np.where(live[..., None], array, 0) for array in (q, k, v))
    size = 0 if form == "parallel" else chunk_size
    compute = steps if form == "recurrent" else partial(chunks, chunk_size=size)
    normaliser = None
    if options.input_gate == "exp":
        inputs = q, k, v, log_i, log_f
        h, after, normaliser, kept = normalised(compute, inputs, state, options.eps)
    else:
        if options.forget_gate == "exp":
            log_f = without_empty(log_i, log_f, k, v, state.C)
        h, C, kept = compute(q, k, v, log_i, log_f, state.C)
        after = mLSTMState(C, None, None)
    if live is not None:
        h = np.where(live[..., None], h, 0)
    h, after = separate(h, NH), map_state(partial(separate, NH=NH), after)
    return h, after, Cache(h, arrays[0], i_pre, f_pre, options, live, normaliser, kept)


def run_form_backward(dh: Array, cache: Cache, dstate: Any) -> Gradients:
    """Compute the gradients of :func:`run`; those of the recurrent form by chunks."""
    h, q, i, f = (joined(array) for array in cache[:4])
    NH, dh, dstate = dh.shape[1], joined(dh), map_state(joined, dstate)
    live, options = cache.live, cache.options
    if live is not None:
        dh, q = (np.where(live[..., None], array, 0) for array in (dh, q))
    if cache.normaliser is None:
        dq, dk, dv, dlog_i, dlog_f, dC = cache.form.backward(dh, q, dstate.C)
        dstate0 = mLSTMState(dC, None, None)
    else:
        residuals = h, q, cache.normaliser, cache.form
        gradients = normalised_backward(dh, residuals, dstate, options.eps)
        dq, dk, dv, dlog_i, dlog_f, dstate0 = gradients
    dk *= 1 / root(dk.shape[-1], dk)
    di = dlog_i * log_gate_slope(i, options.input_gate)
    df = dlog_f * log_gate_slope(f, options.forget_gate)
    if live is not None:
        di, df = np.where(live, di, 0), np.where(live, df, 0)
    apart = partial(separate, NH=NH)
    dq, dk, dv, di, df = map(apart, (dq, dk, dv, di, df))
    return dq, dk, dv, di, df, map_state(apart, dstate0)


def normalised(
    compute: Callable[..., Any], inputs: Arrays, state: Any, eps: float
) -> tuple[Array, mLSTMState, Normaliser, Any]:
    """Run a form with stabilised gates and with n as the last column of C.

    The last entry of each v is 1. Returns h, the state after the last step, and the residuals.
    """
    q, k, v, log_i, log_f = inputs
    C, n, m = state
    log_iprime, log_fprime, ms, past = stabilise(log_i, log_f, m)
    num, C, kept = compute(q, k, v, log_iprime, log_fprime, with_column(C, n))
    ms, qn = ms.astype(q.dtype), num[..., -1].copy()
    h = num[..., :-1] / denominator_and_parts(qn, ms, eps)[0][..., None]  # [mlstm.13]
    m = (ms[:, -1] if ms.size else m).copy()
    after = mLSTMState(C[..., :-1].copy(), C[..., -1].copy(), m)
    return h, after, Normaliser(qn, ms, past), kept


def normalised_backward(dh: Array, residuals: Any, dstate: Any, eps: float) -> tuple[Any, ...]:
    """Return the gradients of q, k, v, of the logs of the gates, and of the first state.

    The form reads with q/den, and so gets the cotangents of h and, in the last column, of q·n·den.
    """
    h, q, (qn, ms, past), form = residuals
    den, sign, floor = denominator_and_parts(qn, ms, eps)
    S = dot(dh, h)[..., 0]  # [mlstm.18]
    dnum, q_by_den = with_column(dh, -sign * S), q / den[..., None]  # [mlstm.19]
    dC = with_column(dstate.C, dstate.n)
    dq, dk, dv, dlog_iprime, dlog_fprime, dC = form.backward(dnum, q_by_den, dC)
    dq /= den[..., None]
    dlog_i, dlog_f, dm = through_stabiliser(past, dlog_iprime, dlog_fprime, floor * S, dstate.m)
    return dq, dk, dv[..., :-1], dlog_i, dlog_f, mLSTMState(dC[..., :-1], dC[..., -1], dm)


def joined(array: Array) -> Array:
    """Return (B, NH, …) as (N, …), for compiled loops."""
    B, NH, *rest = array.shape
    return for_loops(array.reshape(B * NH, *rest))


def separate(array: Array, NH: int) -> Array:
    """Return (N, …) as (B, NH, …)."""
    return array.reshape(len(array) // NH, NH, *array.shape[1:])


def map_state(change: Callable[[Array], Array], state: Iterable[Any]) -> Any:
    """Return a state with a function applied to C, n and m; n and m may be None."""
    return mLSTMState._make(None if array is None else change(array) for array in state)


def denominator_and_parts(qn: Array, m: Array, eps: float) -> tuple[Array, Array, Array]:
    """Return den = max(|q·n|, e^−m) + eps, and the parts that q·n and m have in it.

    The second result is the sign of q·n where |q·n| is the maximum, else 0. The third is
    −∂log den/∂m: e^−m / den where e^−m is the maximum and m is not clipped, else 0.
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

    ``di`` and ``df`` are i′δi′ and f′δf′, and ``dfloor`` is the term of δm from the denominator.
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
