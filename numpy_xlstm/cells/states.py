"""The states that the cells carry from step to step, as plain named tuples of arrays."""

from typing import NamedTuple

from numpy_xlstm.numerics import Array


class LSTMState(NamedTuple):
    """State of an LSTM, or the cotangent of one.

    Attributes
    ----------
    h : np.ndarray
        Hidden state, shape (B, H).
    c : np.ndarray
        Cell state, shape (B, H).
    """

    h: Array
    c: Array


class sLSTMState(NamedTuple):
    """State of an sLSTM, or the cotangent of one.

    (c, n, m) and (c·e^a, n·e^a, m − a) are the same state: m is a gauge. The empty state has
    c = n = 0 and m = −inf.

    Attributes
    ----------
    h : np.ndarray
        Hidden state, shape (B, H).
    c : np.ndarray
        Stabilised cell state, shape (B, H).
    n : np.ndarray
        Stabilised normaliser state, shape (B, H).
    m : np.ndarray
        Stabiliser: the true cell state is c·e^m. Shape (B, H).
    """

    h: Array
    c: Array
    n: Array
    m: Array


class mLSTMState(NamedTuple):
    """State of an mLSTM, or the cotangent of one.

    (C, n, m) and (C·e^a, n·e^a, m − a) are the same memory: m is a gauge. The empty state has
    C = n = 0 and m = −inf. With a sigmoid input gate there is nothing to stabilise or to
    normalise, and n and m are ``None``.

    Attributes
    ----------
    C : np.ndarray
        Stabilised matrix memory, keys × values, shape (B, NH, DK, DV). The keys are already
        divided by √DK.
    n : np.ndarray or None
        Stabilised normaliser state, shape (B, NH, DK).
    m : np.ndarray or None
        Stabiliser: the true memory is C·e^m. Shape (B, NH).
    """

    C: Array
    n: Array | None
    m: Array | None
