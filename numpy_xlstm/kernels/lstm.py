"""LSTM over a whole sequence. Derived in ``docs/derivations/lstm.md``, whose tags are cited."""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.lstm import LSTMState
from numpy_xlstm.kernels import scan
from numpy_xlstm.numerics import Array, own_error_state, tanh_slope
from numpy_xlstm.numerics.activations import exp_minus


class LSTMScanCache(NamedTuple):
    """What the backward of a sequence needs; the arrays of all steps have the steps first."""

    states: Array  # h and c before, between and after the steps, (T + 1, 2, B, H)
    gates: Array  # i, f, z and o, (T, 4, B, H)
    e: Array  # e^−x, likewise, of their pre-activations x; of 2 z̃ for z
    tanh_c: Array  # (T, B, H)
    R: Array
    ends: Array  # how many steps each row has, (B,)


def forward(
    Wx: Array, R: Array, state: LSTMState, ends: Array
) -> tuple[Array, LSTMState, LSTMScanCache]:
    """Run over Wx (B, T, 4·H), of which row b has ``ends[b]`` steps, without checks."""
    gates = scan.gates_first(Wx, ends)
    e, tanh_c = np.empty_like(gates), np.empty_like(gates[:, 0])
    states = scan.scan(_step, gates, R, state, e, tanh_c)
    cache = LSTMScanCache(states, gates, e, tanh_c, R, ends)
    return scan.outputs(states, ends), scan.last_state(LSTMState, states, ends), cache


def _step(gates: Array, before: Array, after: Array, e: Array, tanh_c: Array) -> None:
    i, f, z, o = gates
    h, c = after
    tanh_z = np.tanh(z)
    z *= 2
    exp_minus(gates, out=e)
    np.add(e, 1, out=gates)
    np.reciprocal(gates, out=gates)  # [lstm.1]
    z[...] = tanh_z  # [lstm.2]
    np.multiply(f, before[1], out=c)
    c += i * z  # [lstm.3]
    np.tanh(c, out=tanh_c)
    np.multiply(o, tanh_c, out=h)  # [lstm.4]


def backward(dy: Array, cache: LSTMScanCache, dstate: LSTMState) -> tuple[Array, Array, LSTMState]:
    """Gradients of Wx, of R and of the state before, without checks."""
    kept = (*_derivatives(cache), cache.gates[:, 1])
    return scan.scan_backward(_step_backward, dy, cache, dstate, *kept)


def _derivatives(cache: LSTMScanCache) -> tuple[Array, Array, Array]:
    """Derivatives of c by ĩ, f̃, z̃, of h by õ, and of h by c: of all steps at once."""
    states, gates, e, tanh_c, _, _ = cache
    i, _, z, o = gates.swapaxes(0, 1)
    slopes = e * gates
    slopes *= gates  # σ′(x) = e^−x σ(x)²
    by_i, by_f, by_z, by_o = slopes.swapaxes(0, 1)
    by_i *= z  # [lstm.8]
    by_f *= states[:-1, 1]  # [lstm.9]
    s = 1 / (1 + e[:, 2])
    np.multiply(e[:, 2] * s, s, out=by_z)
    by_z *= 4  # tanh′(z̃) = 4 σ′(2 z̃)
    by_z *= i  # [lstm.7]
    by_o *= tanh_c  # [lstm.5]
    by_c = tanh_slope(states[1:, 1])
    by_c *= o  # [lstm.6]
    return slopes[:, :3], by_o, by_c


def _step_backward(dg: Array, d: Array, c_by: Array, by_o: Array, by_c: Array, f: Array) -> None:
    dh, dc = d
    dc += dh * by_c
    np.multiply(dc, c_by, out=dg[:3])
    np.multiply(dh, by_o, out=dg[3])
    dc *= f  # [lstm.10]


@own_error_state
def lstm_recurrent(
    Wx: Array, R: Array, state: Any = None, *, lengths: Array | None = None
) -> tuple[Array, LSTMState, LSTMScanCache]:
    """LSTM, given what the inputs add to the pre-activations of its gates.

    ::

        g̃_t = (Wx)_t + R h_{t−1},   and then as in LSTMCell

    The recurrence alone. ``LSTMSequence(D, H)``, one layer of ``LSTM``, is this function of
    ``x @ W.T + b`` and ``R[None]``; there may be several heads here.

    Parameters
    ----------
    Wx : np.ndarray
        W x + b, shape (B, T, 4·H), T ≥ 0: for each step the H numbers of i, of f, of z and of o.
    R : np.ndarray
        The recurrent matrix, shape (NH, 4·DH, DH) with H = NH·DH, gate by gate within each head.
    state, lengths
        As in :meth:`sLSTM.forward`, with an :class:`LSTMState`.

    Returns
    -------
    y : np.ndarray
        Outputs, shape (B, T, H).
    state : LSTMState
        State after the last step of each row.
    cache
        What :func:`lstm_recurrent_backward` needs. It refers to R: do not change it before.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import lstm_recurrent
    >>> from numpy_xlstm.layers import LSTMSequence
    >>> rng = np.random.default_rng(0)
    >>> lstm, x = LSTMSequence(3, 4, rng=rng), rng.standard_normal((2, 5, 3))
    >>> W, R, b = (lstm.params[name] for name in "WRb")
    >>> y, state, cache = lstm_recurrent(x @ W.T + b, R[None])
    >>> np.allclose(y, lstm(x)[0], rtol=1e-14)
    True
    """
    state, ends = scan.enter(LSTMState, Wx, R, state, lengths)
    return forward(Wx, R, state, ends)


@own_error_state
def lstm_recurrent_backward(
    dy: Array, cache: LSTMScanCache, dstate: Any = None
) -> tuple[Array, Array, LSTMState]:
    """Vector-Jacobian product of :func:`lstm_recurrent`.

    Parameters
    ----------
    dy, cache, dstate
        As in :meth:`sLSTM.backward`.

    Returns
    -------
    dWx, dR : np.ndarray
        Gradients of Wx, (B, T, 4·H), and of R, (NH, 4·DH, DH).
    dstate0 : LSTMState
        Gradient of the state before the first step.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, CacheError
        If ``dy`` or ``dstate`` is not like what the forward returned, or ``cache`` is another.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import lstm_recurrent, lstm_recurrent_backward
    >>> rng = np.random.default_rng(0)
    >>> Wx, R = rng.standard_normal((2, 5, 16)), rng.standard_normal((1, 16, 4))
    >>> y, state, cache = lstm_recurrent(Wx, R)
    >>> dWx, dR, dstate0 = lstm_recurrent_backward(rng.standard_normal(y.shape), cache)
    >>> dWx.shape, dR.shape, dstate0.c.shape
    ((2, 5, 16), (1, 16, 4), (2, 4))
    """
    return backward(dy, cache, scan.enter_backward(LSTMState, LSTMScanCache, dy, cache, dstate))
