"""sLSTM over a whole sequence.

Derived in ``docs/derivations/slstm.md`` and ``docs/derivations/stabiliser.md``, whose tags are
cited.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.cells.gates import KINDS, check_memory, log_gate, underflows
from numpy_xlstm.cells.slstm import sLSTMState
from numpy_xlstm.kernels import scan
from numpy_xlstm.kernels.functions import (
    exp,
    log_sigmoid,
    maximum,
    pointwise,
    sigmoid,
    sigmoid_and_slope,
    tanh,
    tanh_slope,
    where,
)
from numpy_xlstm.numerics import Array, check_choice, own_error_state


@pointwise
def exponent(f_pre: Any, m: Any, exponential: Any) -> Any:
    """Return log f + m₋."""
    return where(exponential, f_pre, log_sigmoid(f_pre)) + m  # [stab.1] [stab.10]


@pointwise
def step(
    i_pre: Any, f_pre: Any, z_pre: Any, o_pre: Any, c: Any, n: Any, m: Any, exponential: Any
) -> Any:
    """Return h, c, n and m after a step."""
    A = exponent(f_pre, m, exponential)
    m = maximum(A, i_pre)  # [stab.3]
    i, f = exp(i_pre - m), exp(A - m)  # [stab.4] [stab.5]
    c = f * c + i * tanh(z_pre)  # [slstm.1] [slstm.3]
    n = f * n + i  # [slstm.4]
    return sigmoid(o_pre) * (c / n), c, n, m  # [slstm.2] [slstm.5]


@pointwise
def derivatives(
    i_pre: Any,
    f_pre: Any,
    z_pre: Any,
    o_pre: Any,
    c_prev: Any,
    n_prev: Any,
    m_prev: Any,
    c: Any,
    n: Any,
    m: Any,
    exponential: Any,
) -> Any:
    """Return the derivatives of h by c, n and õ, of the memory by the gates, and f′.

    Of i′ and f′ only the one that is not 1 has a derivative: the other one's exponent is m.
    """
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
def step_backward(
    dh: Any,
    dc: Any,
    dn: Any,
    dm: Any,
    h_by_c: Any,
    h_by_n: Any,
    by_o: Any,
    past: Any,
    by_c: Any,
    by_n: Any,
    by_z: Any,
    f: Any,
    slope: Any,
) -> Any:
    """Return the gradients of the pre-activations and of c₋, n₋ and m₋."""
    dc, dn = dc + dh * h_by_c, dn + dh * h_by_n
    own = dc * by_c + dn * by_n  # [slstm.10], or [slstm.11]
    by_m = dm - own
    dA = where(past, by_m, own)  # [stab.13]
    di_pre, df_pre = where(past, own, by_m), dA * slope  # [stab.12] [slstm.12]
    dz_pre, do_pre = dc * by_z, dh * by_o  # [slstm.9] [slstm.6]
    return di_pre, df_pre, dz_pre, do_pre, f * dc, f * dn, dA  # [slstm.13] [slstm.14] [stab.14]


CELL = scan.Recurrence(step, derivatives, step_backward, gates=4, memory=3, units=1)


class sLSTMScanCache(scan.ScanCache):
    """Residuals of an sLSTM over a sequence."""


def forward(
    Wx: Array, params: Mapping[str, Array], state: sLSTMState, ends: Array, forget_gate: str
) -> tuple[Array, sLSTMState, sLSTMScanCache]:
    """Run over Wx (B, T, 4·H), of which row b has ``ends[b]`` steps, without checks.

    Wx is written to.
    """
    R = scan.by_head(params["R"], 4)
    gates = scan.gates(Wx, R)
    start = state._replace(m=emptied(gates, R, state, forget_gate))
    y, cache = scan.forward(CELL, gates, R, start, ends, scan.flag(R, forget_gate == "exp"))
    after = sLSTMState(*cache.state(ends))
    after.m[ends == 0] = state.m[ends == 0]
    return y, after, sLSTMScanCache(*cache)


def emptied(gates: Array, R: Array, state: sLSTMState, forget_gate: str) -> Array:
    """Return m, with −inf where n₋ = 0 and the first step would underflow  [stab.9].

    Later there are none: n is at least as large as the smaller of 1 and n₋.
    """
    h, _, n, m = state
    if gates.size and ((n == 0) & (m.real > -np.inf)).any():
        B, _, _, NH, D = gates.shape
        Rh = np.einsum("nkj,bnj->bnk", R, h.reshape(B, NH, D)).reshape(B, NH, 4, D)
        i_pre, f_pre, _, _ = (gates[:, 0] + Rh.swapaxes(1, 2)).swapaxes(0, 1).reshape(4, B, -1)
        lost = (n == 0) & underflows(i_pre - (log_gate(f_pre, forget_gate) + m))
        m = np.where(lost, -np.inf, m)
    return m


def backward(
    dy: Array, cache: sLSTMScanCache, dstate: sLSTMState
) -> tuple[Array, sLSTMState, dict[str, Array]]:
    """Return the gradients of Wx, of the state before and of the parameters, without checks."""
    dgates, d = scan.backward(CELL, dy, cache, dstate)
    return scan.joined(dgates), sLSTMState(*d), {"R": scan.gradient_of_R(dgates, cache)}


@own_error_state
def slstm_recurrent(
    Wx: Array,
    R: Array,
    state: Any = None,
    *,
    lengths: Array | None = None,
    forget_gate: str = "sigmoid",
) -> tuple[Array, sLSTMState, sLSTMScanCache]:
    """sLSTM, given what the inputs add to the pre-activations of its gates.

    ::

        g̃_t = (Wx)_t + R h_{t−1},   and then as in sLSTMCell

    The recurrence alone, as the kernels of the official package and of FlashRNN have it, with the
    gates in the order of the first. ``sLSTM(D, H, NH)`` is this function of ``x @ W.T + b``.

    Parameters
    ----------
    Wx, R, lengths : np.ndarray
        As in :func:`~numpy_xlstm.lstm_recurrent`: (B, T, 4·H), (NH, 4·DH, DH) and (B,).
    state : sLSTMState, optional
        h, c, n and m before the first step, (B, H); the empty state, m = −inf, if omitted.
    forget_gate : {"sigmoid", "exp"}
        What the forget gate is.

    Returns
    -------
    y, state, cache
        As there; the state is an :class:`sLSTMState`.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError, StateError
        If an argument is not as described, or n is negative, or 0 beside a c that is not.

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
    check_choice("forget_gate", forget_gate, KINDS)
    state, ends = scan.enter(sLSTMState, Wx, R, state, lengths)
    check_memory(state)
    return forward(Wx.copy(), {"R": R}, state, ends, forget_gate)


@own_error_state
def slstm_recurrent_backward(
    dy: Array, cache: sLSTMScanCache, dstate: Any = None
) -> tuple[Array, Array, sLSTMState]:
    """Vector-Jacobian product of :func:`slstm_recurrent`.

    Parameters
    ----------
    dy : np.ndarray
        Cotangent of y, shape (B, T, H).
    cache
        From :func:`slstm_recurrent`.
    dstate : sLSTMState, optional
        Cotangent of the state after the last step, (B, H) each; 0 if omitted.

    Returns
    -------
    dWx, dR : np.ndarray
        Gradients of Wx, (B, T, 4·H), and of R, (NH, 4·DH, DH).
    dstate0 : sLSTMState
        Gradient of the state before the first step.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, CacheError
        If ``dy`` or ``dstate`` is not like what the forward returned, or ``cache`` is another.

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
    dstate = scan.enter_backward(sLSTMState, sLSTMScanCache, dy, cache, dstate)
    dWx, dstate0, grads = backward(dy, cache, dstate)
    return dWx, grads["R"], dstate0
