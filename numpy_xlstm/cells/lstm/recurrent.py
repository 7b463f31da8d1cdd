"""LSTM over pre-activations that the caller has made."""

from collections.abc import Sequence
from typing import Any

from numpy_xlstm.cells.given import GivenCache, recurrent, recurrent_backward
from numpy_xlstm.cells.lstm.pointwise import LSTMPointwise
from numpy_xlstm.cells.states import LSTMState
from numpy_xlstm.numerics import Array
from numpy_xlstm.signatures import Signed

Cache = Signed[GivenCache[LSTMState]]


def lstm_recurrent(
    Wx: Array,
    R: Array,
    state: Sequence[Any] | None = None,
    *,
    lengths: Array | None = None,
) -> tuple[Array, LSTMState, Cache]:
    """LSTM, given what the inputs add to the pre-activations of its gates.

    ::

        g̃_t = (Wx)_t + R h_{t−1},   and then as in LSTMCell

    The recurrence alone, as a kernel has it. ``LSTM(D, H)`` is this function of
    ``x @ W.T + b`` and ``R[None]``; there may be several heads here.

    Parameters
    ----------
    Wx : np.ndarray
        W x + b, shape (B, T, 4·H), T ≥ 0: for each step the H numbers of i, of f, of z and of o.
    R : np.ndarray
        The recurrent matrix, shape (NH, 4·DH, DH) with H = NH·DH, gate by gate within each head.
    state : LSTMState, optional
        h and c before the first step, (B, H); 0 if omitted.
    lengths : np.ndarray, optional
        Number of steps of each batch row, integers (B,) from 0 to T; T if omitted. The steps after
        them are padding: they change no state, have outputs of 0, and get gradients of 0.

    Returns
    -------
    y : np.ndarray
        Outputs h_1 … h_T, shape (B, T, H).
    state : LSTMState
        State after the last step of each row.
    cache
        What :func:`lstm_recurrent_backward` needs. It refers to R: do not change it before the
        backward.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import LSTM, lstm_recurrent
    >>> rng = np.random.default_rng(0)
    >>> lstm, x = LSTM(3, 4, rng=rng), rng.standard_normal((2, 5, 3))
    >>> W, R, b = (lstm.params[name] for name in "WRb")
    >>> y, state, cache = lstm_recurrent(x @ W.T + b, R[None])
    >>> np.allclose(y, lstm(x)[0], rtol=1e-14)
    True
    """
    return recurrent("lstm_recurrent", LSTMState, LSTMPointwise(), Wx, R, state, lengths)


def lstm_recurrent_backward(
    dy: Array, cache: Cache, dstate: Sequence[Any] | None = None
) -> tuple[Array, Array, LSTMState]:
    """Vector-Jacobian product of :func:`lstm_recurrent`.

    Parameters
    ----------
    dy : np.ndarray
        Cotangent of the outputs, shape (B, T, H).
    cache
        From the forward. It is not changed, and can be used again.
    dstate : LSTMState, optional
        Cotangent of the state after the last step; zero if omitted.

    Returns
    -------
    dWx : np.ndarray
        Gradient of Wx, shape (B, T, 4·H).
    dR : np.ndarray
        Gradient of R, shape (NH, 4·DH, DH).
    dstate0 : LSTMState
        Gradient of the state before the first step.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError
        If a cotangent is not like what that forward returned, or not finite.
    CacheError
        If ``cache`` is not from that forward.
    """
    return recurrent_backward("lstm_recurrent", dy, cache, dstate)
