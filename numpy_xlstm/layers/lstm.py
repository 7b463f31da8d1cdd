"""LSTM over sequences: one direction of one layer."""

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.lstm import LSTMCell, LSTMState
from numpy_xlstm.layers.sequence import SequenceLayer


class LSTMSequence(SequenceLayer[LSTMState]):
    """One direction of one LSTM layer: :class:`LSTMCell` at every step, with the same parameters.

    :class:`~numpy_xlstm.LSTM` is a stack of these.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h and c.
    batch_first : bool, default True
        Whether x and y are (B, T, ·). If False, they are (T, B, ·), which is PyTorch's default.
    dtype : dtype, default float64
        Dtype of the parameters, and of all inputs and results: float32, float64 or longdouble; for
        a complex step, complex128 or clongdouble.
    rng : np.random.Generator or int, optional
        Generator for the initial parameters, or its seed; a new, unseeded one if omitted.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> lstm = LSTMSequence(3, 4, rng=rng)
    >>> y, state, cache = lstm.forward(rng.standard_normal((2, 5, 3)))
    >>> dx, dstate0, grads = lstm.backward(rng.standard_normal(y.shape), cache)
    >>> dx.shape, dstate0.c.shape, sorted(grads)
    ((2, 5, 3), (2, 4), ['R', 'W', 'b'])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        batch_first: bool = True,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        cell = LSTMCell(input_size, hidden_size, dtype=dtype, rng=rng)
        super().__init__(cell, batch_first=batch_first)
