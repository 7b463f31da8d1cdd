"""Public functions of an mLSTM over a sequence: each form, and the backward of all forms."""

from typing import Any

from numpy_xlstm.cells.gates import GATE_KINDS
from numpy_xlstm.cells.mlstm import EPS, empty_memory, mLSTMState
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.kernels.common import FunctionCache
from numpy_xlstm.kernels.mlstm.chunkwise import CHUNK_SIZE
from numpy_xlstm.kernels.mlstm.forms import Cache, Gradients, Options, run_form, run_form_backward
from numpy_xlstm.numerics import (
    Array,
    check_array,
    checked_choice,
    checked_eps,
    checked_lengths,
    checked_positive,
    own_error_state,
)
from numpy_xlstm.trees import zeros_like
from numpy_xlstm.validation import checked_like


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
) -> tuple[Array, mLSTMState, FunctionCache]:
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
    cache : FunctionCache
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
    options = Options(eps, forget_gate, input_gate)
    return checked_run("recurrent", (q, k, v, i, f), state, lengths, options)


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
) -> tuple[Array, mLSTMState, FunctionCache]:
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
    options = Options(eps, forget_gate, input_gate)
    return checked_run("parallel", (q, k, v, i, f), state, lengths, options)


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
) -> tuple[Array, mLSTMState, FunctionCache]:
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
    options = Options(eps, forget_gate, input_gate)
    size = checked_positive("chunk_size", chunk_size)
    return checked_run("chunkwise", (q, k, v, i, f), state, lengths, options, size)


@own_error_state
def mlstm_recurrent_backward(dh: Array, cache: FunctionCache, dstate: Any = None) -> Gradients:
    """Compute the vector-Jacobian product of an mLSTM, whatever the form of its forward.

    ``mlstm_parallel_backward`` and ``mlstm_chunkwise_backward`` are the same function.

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
    kept: Cache = FunctionCache.checked(cache, "mLSTM")
    check_array("dh", dh, kept.h.shape, kept.h.dtype)
    shape = *kept.q.shape[:2], kept.q.shape[-1], kept.h.shape[-1]
    empty = empty_memory(shape, dh.dtype, kept.options.input_gate)
    dstate = zeros_like(empty) if dstate is None else checked_like("dstate", dstate, empty)
    return run_form_backward(dh, kept, dstate)


mlstm_parallel_backward = mlstm_chunkwise_backward = mlstm_recurrent_backward


@own_error_state
def checked_run(
    form: str,
    arrays: tuple[Array, ...],
    state: Any,
    lengths: Any,
    options: Options,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Array, mLSTMState, FunctionCache]:
    """Validate the arguments and run a form."""
    q, k, v, i, f = arrays
    checked_eps(options.eps)
    checked_choice("forget_gate", options.forget_gate, GATE_KINDS)
    checked_choice("input_gate", options.input_gate, GATE_KINDS)
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
    empty = empty_memory((B, NH, DK, v.shape[-1]), q.dtype, options.input_gate)
    state = empty if state is None else checked_like("state", state, empty)
    lengths = None if lengths is None else checked_lengths(lengths, B, T)
    h, after, kept = run_form(form, arrays, state, lengths, options, chunk_size)
    return h, after, FunctionCache("mLSTM", kept)
