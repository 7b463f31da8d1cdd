"""sLSTM over pre-activations that the caller has made."""

from collections.abc import Sequence
from typing import Any

from numpy_xlstm.cells.given import GivenCache, recurrent, recurrent_backward
from numpy_xlstm.cells.slstm.pointwise import sLSTMPointwise
from numpy_xlstm.cells.stabilizer import FORGET_GATES
from numpy_xlstm.cells.states import sLSTMState
from numpy_xlstm.numerics import Array, check_choice
from numpy_xlstm.signatures import Signed

Cache = Signed[GivenCache[sLSTMState]]


def slstm_recurrent(
    Wx: Array,
    R: Array,
    state: Sequence[Any] | None = None,
    *,
    lengths: Array | None = None,
    forget_gate: str = "sigmoid",
) -> tuple[Array, sLSTMState, Cache]:
    """sLSTM, given what the inputs add to the pre-activations of its gates.

    ::

        g̃_t = (Wx)_t + R h_{t−1},   and then as in sLSTMCell

    The recurrence alone, as the kernels of the official package and of FlashRNN have it, with the
    gates in the order of the first. ``sLSTM(D, H, NH)`` is this function of ``x @ W.T + b``.

    Parameters
    ----------
    Wx : np.ndarray
        W x + b, shape (B, T, 4·H), T ≥ 0: for each step the H numbers of i, of f, of z and of o.
    R : np.ndarray
        The recurrent matrix, shape (NH, 4·DH, DH) with H = NH·DH, gate by gate within each head.
    state : sLSTMState, optional
        h, c, n and m before the first step, (B, H); the empty state, m = −inf, if omitted.
    lengths : np.ndarray, optional
        Number of steps of each batch row, integers (B,) from 0 to T; T if omitted. The steps after
        them are padding: they change no state, have outputs of 0, and get gradients of 0.
    forget_gate : {"sigmoid", "exp"}
        What the forget gate is.

    Returns
    -------
    y : np.ndarray
        Outputs h_1 … h_T, shape (B, T, H).
    state : sLSTMState
        State after the last step of each row.
    cache
        What :func:`slstm_recurrent_backward` needs. It refers to R: do not change it before the
        backward.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        If an argument is not as described.

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
    pointwise = sLSTMPointwise(check_choice("forget_gate", forget_gate, FORGET_GATES))
    return recurrent("slstm_recurrent", sLSTMState, pointwise, Wx, R, state, lengths)


def slstm_recurrent_backward(
    dy: Array, cache: Cache, dstate: Sequence[Any] | None = None
) -> tuple[Array, Array, sLSTMState]:
    """Vector-Jacobian product of :func:`slstm_recurrent`.

    Parameters
    ----------
    dy : np.ndarray
        Cotangent of the outputs, shape (B, T, H).
    cache
        From the forward. It is not changed, and can be used again.
    dstate : sLSTMState, optional
        Cotangent of the state after the last step; zero if omitted.

    Returns
    -------
    dWx : np.ndarray
        Gradient of Wx, shape (B, T, 4·H).
    dR : np.ndarray
        Gradient of R, shape (NH, 4·DH, DH).
    dstate0 : sLSTMState
        Gradient of the state before the first step.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError
        If a cotangent is not like what that forward returned, or not finite.
    CacheError
        If ``cache`` is not from that forward.
    """
    return recurrent_backward("slstm_recurrent", dy, cache, dstate)
