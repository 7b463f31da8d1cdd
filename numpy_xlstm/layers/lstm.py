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
    batch_first, dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

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
