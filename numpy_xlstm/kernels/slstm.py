"""sLSTM over a whole sequence.

Derived in ``docs/derivations/slstm.md`` and ``docs/derivations/stabiliser.md``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.cells.gates import GATE_KINDS, log_gate, underflows
from numpy_xlstm.cells.slstm import sLSTMState
from numpy_xlstm.kernels import scan
from numpy_xlstm.kernels.common import FunctionCache
from numpy_xlstm.kernels.functions import (
    compiled,
    exp,
    kernel,
    log_sigmoid,
    maximum,
    pointwise,
    sigmoid,
    sigmoid_and_slope,
    tanh,
    tanh_slope,
    where,
)
from numpy_xlstm.numerics import Array, checked_choice, own_error_state


@pointwise
def exponent(f_pre: Any, m: Any, exponential: Any) -> Any:
    """Return log f + m₋."""
    return where(exponential, f_pre, log_sigmoid(f_pre)) + m  # [stab.1] [stab.3]


@pointwise
def step(pre: Any, memory: Any, constants: Any) -> Any:
    """Return h, c, n and m after a step."""
    (i_pre, f_pre, z_pre, o_pre), (c, n, m), (exponential,) = pre, memory, constants
    A = exponent(f_pre, m, exponential)
    m = maximum(A, i_pre)  # [stab.5]
    i, f = exp(i_pre - m), exp(A - m)  # [stab.6] [stab.7]
    c = f * c + i * tanh(z_pre)  # [slstm.1] [slstm.3]
    n = f * n + i  # [slstm.4]
    return sigmoid(o_pre) * (c / n), c, n, m  # [slstm.2] [slstm.5]


@pointwise
def derivatives(pre: Any, before: Any, after: Any, constants: Any) -> Any:
    """Return the factors of :func:`step_backward`.

    These are the derivatives of h with respect to c, n and õ, those of the memory with respect to
    the gates, f′, the slope of the log forget gate, and whether f′ is 1. One of i′ and f′ is the
    constant 1, and its derivative is 0. So only the derivative through the other one is needed.
    """
    (i_pre, f_pre, z_pre, o_pre), (c_prev, n_prev, m_prev), (c, n, m) = pre, before, after
    (exponential,) = constants
    A = exponent(f_pre, m_prev, exponential)
    past = A.real >= i_pre.real
    i, f = exp(i_pre - m), exp(A - m)
    o, o_slope = sigmoid_and_slope(o_pre)
    ratio = c / n
    h_by_c, h_by_n = o / n, -(o / n) * ratio  # [slstm.7] [slstm.8]
    by_c, by_n = where(past, i * tanh(z_pre), f * c_prev), where(past, i, f * n_prev)
    slope = where(exponential, 1, sigmoid(-f_pre))  # [stab.2]
    return h_by_c, h_by_n, ratio * o_slope, past, by_c, by_n, i * tanh_slope(z_pre), f, slope


@pointwise
def step_backward(d: Any, factors: Any) -> Any:
    """Return the gradients of the pre-activations and of c₋, n₋ and m₋."""
    dh, dc, dn, dm = d
    h_by_c, h_by_n, by_o, past, by_c, by_n, by_z, f, slope = factors
    dc, dn = dc + dh * h_by_c, dn + dh * h_by_n
    own = dc * by_c + dn * by_n  # [slstm.10], or [slstm.11]
    by_m = dm - own
    dA = where(past, by_m, own)  # [stab.9]
    di_pre, df_pre = where(past, own, by_m), dA * slope  # [stab.8] [slstm.12]
    dz_pre, do_pre = dc * by_z, dh * by_o  # [slstm.9] [slstm.6]
    return di_pre, df_pre, dz_pre, do_pre, f * dc, f * dn, dA  # [slstm.13] [slstm.14] [stab.10]


CELL = scan.Recurrence(step, derivatives, step_backward, sLSTMState, num_pre=4, num_constants=1)
backward = CELL.backward


def forward(
    Wx: Array,
    params: Mapping[str, Array],
    state: sLSTMState,
    lengths: Array | None,
    forget_gate: str,
) -> tuple[Array, sLSTMState, scan.ScanCache]:
    """Run :meth:`scan.Recurrence.forward` from a state that may have n = 0 with any m."""
    if lengths is not None:
        Wx[lengths == 0] = 0  # padding could overflow in the next line
    start = state._replace(m=first_m(Wx, params["R"], state, forget_gate))
    y, after, cache = CELL.forward(Wx, params, start, lengths, [forget_gate == "exp"])
    if lengths is not None:
        after.m[lengths == 0] = state.m[lengths == 0]
    return y, after, cache


def first_m(Wx: Array, R: Array, state: sLSTMState, forget_gate: str) -> Array:
    """Return the m before the first step, from :func:`without_empty`.

    At later steps no unit is empty: the first step makes n > 0, and later n ≥ min(1, n₋).
    """
    h, _, n, m = state
    if Wx.size and ((n == 0) & (m.real > -np.inf)).any():
        B, (NH, _, D) = len(Wx), R.shape
        Rh = np.einsum("nkj,bnj->bnk", R, h.reshape(B, NH, D)).reshape(B, NH, 4, D)
        first = Wx[:, 0].reshape(B, 4, NH, D) + Rh.swapaxes(1, 2)
        i_pre, f_pre, _, _ = first.swapaxes(0, 1).reshape(4, B, -1)
        m = without_empty(i_pre, f_pre, n, m, forget_gate)
    return m


def without_empty(i_pre: Array, f_pre: Array, n: Array, m: Array, forget_gate: str) -> Array:
    """Return m, replaced by −inf where n₋ = 0 and the step would underflow  [stab.4]."""
    lost = (n == 0) & underflows(i_pre - (log_gate(f_pre, forget_gate) + m))
    return np.where(lost, -np.inf, m)


@kernel
def units_step(pre: Any, memory: Any, h: Any, after: Any) -> None:
    """Take one step for each unit of each row, with a sigmoid forget gate."""
    (i_pre, f_pre, z_pre, o_pre), (c, n, m), (c_after, n_after, m_after) = pre, memory, after
    for j in range(h.size):
        now, before = (i_pre[j], f_pre[j], z_pre[j], o_pre[j]), (c[j], n[j], m[j])
        h[j], c_after[j], n_after[j], m_after[j] = step(now, before, (False,))


def slstm_step(pre: Array, state: sLSTMState) -> sLSTMState:
    """Take one step without a cache, with a sigmoid forget gate.

    ``pre`` are the pre-activations, R h included, (4, B, H).
    """
    _, c, n, m = state
    if not n.all():
        m = without_empty(pre[0], pre[1], n, m, "sigmoid")
    if not compiled(pre.dtype):
        return sLSTMState(*step(pre, (c, n, m), (False,)))
    after = sLSTMState(*np.empty((4, *m.shape), m.dtype))
    h, *memory = (array.reshape(-1) for array in after)
    units_step(tuple(pre.reshape(4, -1)), (c.ravel(), n.ravel(), m.ravel()), h, tuple(memory))
    return after


@own_error_state
def slstm_recurrent(
    Wx: Array,
    R: Array,
    state: Any = None,
    *,
    lengths: Array | None = None,
    forget_gate: str = "sigmoid",
) -> tuple[Array, sLSTMState, FunctionCache]:
    """Run an sLSTM over a sequence of pre-activations W x + b.

    ::

        g̃_t = (Wx)_t + R h_{t−1},   and then as in sLSTMCell

    This function is the recurrence without the input projection, like the kernels of the official
    package and of FlashRNN; the gates are in the order of the official package. ``sLSTM`` computes
    it for ``x @ W.T + b``.

    Parameters
    ----------
    Wx, R, lengths : np.ndarray
        As in :func:`~numpy_xlstm.lstm_recurrent`: (B, T, 4·H), (NH, 4·DH, DH) and (B,).
    state : sLSTMState, optional
        h, c, n and m before the first step, (B, H) each; the empty state, m = −inf, if omitted.
    forget_gate : {"sigmoid", "exp"}
        Activation of the forget gate.

    Returns
    -------
    y, state, cache
        As in :func:`~numpy_xlstm.lstm_recurrent`; the state is an :class:`sLSTMState`.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import sLSTM, slstm_recurrent
    >>> rng = np.random.default_rng(0)
    >>> slstm, x = sLSTM(3, 4, num_heads=2, rng=rng), rng.standard_normal((2, 5, 3))
    >>> W, R, b = (slstm.params[name] for name in "WRb")
    >>> y, state, cache = slstm_recurrent(x @ W.T + b, R)
    >>> np.allclose(y, slstm(x)[0], rtol=1e-14)
    True
    """
    checked_choice("forget_gate", forget_gate, GATE_KINDS)
    Wx, state, lengths = CELL.checked_forward(Wx, R, state, lengths)
    y, after, kept = forward(Wx, {"R": R}, state, lengths, forget_gate)
    return y, after, FunctionCache("sLSTM", kept)


@own_error_state
def slstm_recurrent_backward(
    dy: Array, cache: FunctionCache, dstate: Any = None
) -> tuple[Array, Array, sLSTMState]:
    """Compute the vector-Jacobian product of :func:`slstm_recurrent`.

    Parameters
    ----------
    dy, cache, dstate
        As in :func:`~numpy_xlstm.lstm_recurrent_backward`, with an :class:`sLSTMState`.

    Returns
    -------
    dWx, dR, dstate0
        Gradients of Wx, (B, T, 4·H), of R, (NH, 4·DH, DH), and of the state before the first step.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import slstm_recurrent, slstm_recurrent_backward
    >>> rng = np.random.default_rng(0)
    >>> Wx, R = rng.standard_normal((2, 5, 16)), rng.standard_normal((2, 8, 2))
    >>> y, state, cache = slstm_recurrent(Wx, R)
    >>> dWx, dR, dstate0 = slstm_recurrent_backward(rng.standard_normal(y.shape), cache)
    >>> dWx.shape, dR.shape, dstate0.m.shape
    ((2, 5, 16), (2, 8, 2), (2, 4))
    """
    return CELL.checked_backward(dy, FunctionCache.checked(cache, "sLSTM"), dstate)
