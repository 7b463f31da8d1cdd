"""mLSTM step by step: the recurrent form, forward and backward.

It is the loop over :mod:`numpy_xlstm.cells.mlstm.step`. The forward keeps the states at about √T
places; the backward recomputes those in between, one segment at a time.
"""

from collections.abc import Sequence
from math import isqrt
from typing import NamedTuple

import numpy as np

from numpy_xlstm.cells.mlstm.gates import Options, check_options
from numpy_xlstm.cells.mlstm.inputs import (
    Gradients,
    Inputs,
    MemoryInputs,
    check_cotangents,
    check_inputs,
    check_state,
    own,
    to_memory,
    to_memory_backward,
    with_own_state,
)
from numpy_xlstm.cells.mlstm.step import enter_backward, leave_backward, step, step_backward
from numpy_xlstm.cells.padding import without_padding
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.numerics import Array
from numpy_xlstm.signatures import check_returned_by


class RecurrentCache(NamedTuple):
    """What the backward of the recurrent form needs."""

    inputs: Inputs
    """As given."""
    memory_inputs: MemoryInputs
    options: Options
    segment: int
    """Steps between two kept states."""
    kept: list[mLSTMState]
    """The states before steps 0, segment, 2·segment, …"""
    last: mLSTMState


def mlstm_recurrent(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: Sequence[Array | None] | None = None,
    *,
    lengths: Array | None = None,
    eps: float = 1e-6,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, RecurrentCache]:
    """mLSTM, one step after the other.

    ::

        m_t = max(log f_t + m_{t−1}, ĩ_t);  i′ = e^(ĩ_t − m_t);  f′ = e^(log f_t + m_{t−1} − m_t)
        C_t = f′ C_{t−1} + i′ k_t v_tᵀ / √DK                    (xLSTM paper, Eq 19, transposed)
        n_t = f′ n_{t−1} + i′ k_t / √DK                         (Eq 20)
        h_t = C_tᵀ q_t / (max(|q_t·n_t|, e^(−m_t)) + eps)       (Eq 21)

    With a sigmoid input gate (mLSTMsig of the TFLA paper) i = σ(ĩ), there is no n and no m, and
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
        C (B, NH, DK, DV), n (B, NH, DK) and m (B, NH) before the first step. The empty state,
        m = −inf, if omitted.
    lengths : np.ndarray, optional
        Number of steps of each batch row, integers (B,) from 0 to T; T if omitted. The steps after
        them are padding: they change no state, have outputs of 0, and get gradients of 0.
    eps : float, default 1e-6
        Added to the denominator; 0 is the paper.
    forget_gate : {"sigmoid", "exp"}
        What the forget gate is.
    input_gate : {"exp", "sigmoid"}
        What the input gate is.

    Returns
    -------
    h : np.ndarray
        Outputs, shape (B, NH, T, DV).
    state : mLSTMState
        State after the last step.
    cache : RecurrentCache
        What :func:`mlstm_recurrent_backward` needs. It refers to the inputs: do not change them
        before the backward.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        If an argument is not as described.

    Notes
    -----
    C here is the transpose of the paper's, keys × values. The stabiliser is the recurrence that
    the paper gives for sLSTM (Eqs 15–17). With an exponential forget gate beside a sigmoid input
    gate nothing bounds C: that combination overflows where its mathematics does.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mlstm_recurrent, mlstm_recurrent_backward
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 1, 2, 5, 4))
    >>> i, f = rng.standard_normal((2, 1, 2, 5))
    >>> h, state, cache = mlstm_recurrent(q, k, v, i, f)
    >>> dq, dk, dv, di, df, dstate0 = mlstm_recurrent_backward(np.ones_like(h), cache)
    >>> h.shape, state.C.shape, di.shape
    ((1, 2, 5, 4), (1, 2, 4, 4), (1, 2, 5))
    """
    options = check_options(eps, forget_gate, input_gate)
    inputs = check_inputs(q, k, v, i, f, lengths)
    start = own(check_state("state", state, inputs, options))
    return with_own_state(*run_steps(inputs, start, options))


def run_steps(
    inputs: Inputs, state: mLSTMState, options: Options
) -> tuple[Array, mLSTMState, RecurrentCache]:
    """Go through the steps in order, without checks; ``state`` is kept in the cache."""
    now, memory_inputs = state, to_memory(inputs, options)
    T = inputs.q.shape[2]
    segment = max(1, isqrt(T))
    h = np.empty_like(inputs.v)
    kept = []
    for t in range(T):
        if t % segment == 0:
            kept.append(now)
        h[:, :, t], now, _ = step(_at(memory_inputs, t), now, options.eps)
    cache = RecurrentCache(inputs, memory_inputs, options, segment, kept or [now], now)
    return without_padding(h, inputs.padding), now, cache


def mlstm_recurrent_backward(
    dh: Array, cache: RecurrentCache, dstate: Sequence[Array | None] | None = None
) -> Gradients:
    """Vector-Jacobian product of :func:`mlstm_recurrent`.

    Parameters
    ----------
    dh : np.ndarray
        Cotangent of h, shape (B, NH, T, DV).
    cache : RecurrentCache
        From the forward. It is not changed, and can be used again.
    dstate : mLSTMState, optional
        Cotangents of C, n and m after the last step; zero if omitted.

    Returns
    -------
    dq, dk, dv, di, df : np.ndarray
        Gradients of the inputs, in their shapes.
    dstate0 : mLSTMState
        Gradients of C, n and m before the first step.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError
        If ``dh`` or ``dstate`` is not as described.
    CacheError
        If ``cache`` is not from that forward.
    """
    check_returned_by("mlstm_recurrent", cache, RecurrentCache)
    return run_steps_backward(dh, cache, check_cotangents(dh, dstate, cache.inputs, cache.options))


def run_steps_backward(dh: Array, cache: RecurrentCache, dstate: mLSTMState) -> Gradients:
    """Go back through the steps, without checks."""
    inputs, memory_inputs, options, segment, kept, last = cache
    d = enter_backward(dstate, last)
    dh = without_padding(dh, inputs.padding)
    grads = MemoryInputs(*(np.empty_like(array) for array in memory_inputs))
    T = dh.shape[2]
    for start in reversed(range(0, T, segment)):
        steps, now = [], kept[start // segment]
        for t in range(start, min(start + segment, T)):
            _, now, one = step(_at(memory_inputs, t), now, options.eps)
            steps.append(one)
        for t in reversed(range(start, start + len(steps))):
            dinputs, d = step_backward(dh[:, :, t], d, steps[t - start])
            for grad, value in zip(grads, dinputs, strict=True):
                grad[:, :, t] = value
    dstate0 = own(leave_backward(d, kept[0]))
    return *to_memory_backward(grads, inputs, options), dstate0


def _at(inputs: MemoryInputs, t: int) -> MemoryInputs:
    """The inputs of step t."""
    q, k, v, log_i, log_f = inputs
    return MemoryInputs(q[:, :, t], k[:, :, t], v[:, :, t], log_i[:, :, t], log_f[:, :, t])
