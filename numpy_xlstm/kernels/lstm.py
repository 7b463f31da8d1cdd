"""LSTM over a whole sequence, derived in ``docs/derivations/lstm.md``."""

from typing import Any

from numpy_xlstm.cells.lstm import LSTMState
from numpy_xlstm.kernels import scan
from numpy_xlstm.kernels.common import FunctionCache
from numpy_xlstm.kernels.functions import pointwise, sigmoid, sigmoid_and_slope, tanh, tanh_slope
from numpy_xlstm.numerics import Array, own_error_state


@pointwise
def step(pre: Any, memory: Any, constants: Any) -> Any:
    """Return h and c after a step."""
    (i_pre, f_pre, z_pre, o_pre), (c,) = pre, memory
    c = sigmoid(f_pre) * c + sigmoid(i_pre) * tanh(z_pre)  # [lstm.1] [lstm.2] [lstm.3]
    return sigmoid(o_pre) * tanh(c), c  # [lstm.4]


@pointwise
def derivatives(pre: Any, before: Any, after: Any, constants: Any) -> Any:
    """Return the derivatives of h with respect to c, õ, and of c with respect to ĩ, f̃, z̃, c₋."""
    (i_pre, f_pre, z_pre, o_pre), (c_prev,), (c,) = pre, before, after
    i, i_slope = sigmoid_and_slope(i_pre)
    f, f_slope = sigmoid_and_slope(f_pre)
    o, o_slope = sigmoid_and_slope(o_pre)
    by_i, by_f, by_z = tanh(z_pre) * i_slope, c_prev * f_slope, i * tanh_slope(z_pre)
    return o * tanh_slope(c), tanh(c) * o_slope, by_i, by_f, by_z, f


@pointwise
def step_backward(d: Any, factors: Any) -> Any:
    """Return the gradients of the pre-activations and of c₋."""
    (dh, dc), (h_by_c, by_o, by_i, by_f, by_z, f) = d, factors
    dc = dc + dh * h_by_c  # [lstm.6]
    di_pre, df_pre, dz_pre = dc * by_i, dc * by_f, dc * by_z  # [lstm.8] [lstm.9] [lstm.7]
    return di_pre, df_pre, dz_pre, dh * by_o, dc * f  # [lstm.5] [lstm.10]


CELL = scan.Recurrence(step, derivatives, step_backward, LSTMState, num_pre=4)
forward, backward = CELL.forward, CELL.backward


@own_error_state
def lstm_recurrent(
    Wx: Array, R: Array, state: Any = None, *, lengths: Array | None = None
) -> tuple[Array, LSTMState, FunctionCache]:
    """Run an LSTM over a sequence of pre-activations W x + b.

    ::

        g̃_t = (Wx)_t + R h_{t−1},   and then as in LSTMCell

    This function is the recurrence without the input projection. ``SequenceLayer(LSTMCell(D, H))``
    gives the same result as this function with Wx = ``x @ W.T + b`` and ``R[None]``. This function
    also supports several heads.

    Parameters
    ----------
    Wx : np.ndarray
        W x + b, shape (B, T, 4·H), T ≥ 0; at each step, H numbers for each of i, f, z and o.
    R : np.ndarray
        Recurrent matrix, shape (NH, 4·DH, DH) with H = NH·DH, gate by gate within each head.
    state, lengths
        As in :meth:`sLSTM.forward`, with an :class:`LSTMState`.

    Returns
    -------
    y : np.ndarray
        Outputs, shape (B, T, H).
    state : LSTMState
        State after the last step of each row.
    cache
        Residuals for :func:`lstm_recurrent_backward`. They refer to R: do not modify R until that
        function has run.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import LSTMCell, SequenceLayer, lstm_recurrent
    >>> rng = np.random.default_rng(0)
    >>> lstm, x = SequenceLayer(LSTMCell(3, 4, rng=rng)), rng.standard_normal((2, 5, 3))
    >>> W, R, b = (lstm.params[name] for name in "WRb")
    >>> y, state, cache = lstm_recurrent(x @ W.T + b, R[None])
    >>> np.allclose(y, lstm(x)[0], rtol=1e-14)
    True
    """
    Wx, state, lengths = CELL.checked_forward(Wx, R, state, lengths)
    y, after, kept = forward(Wx, {"R": R}, state, lengths)
    return y, after, FunctionCache("LSTM", kept)


@own_error_state
def lstm_recurrent_backward(
    dy: Array, cache: FunctionCache, dstate: Any = None
) -> tuple[Array, Array, LSTMState]:
    """Compute the vector-Jacobian product of :func:`lstm_recurrent`.

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
    return CELL.checked_backward(dy, FunctionCache.checked(cache, "LSTM"), dstate)
