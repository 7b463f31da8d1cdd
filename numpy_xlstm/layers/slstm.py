"""sLSTM over a sequence."""

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.slstm import sLSTMCell, sLSTMState
from numpy_xlstm.layers.sequence import SequenceLayer, of_cell


class sLSTM(SequenceLayer[sLSTMState]):
    """An sLSTM over sequences x (batch, time, features): :class:`sLSTMCell` at every step.

    ``batch_first=True`` is the default, unlike in PyTorch: for x (time, batch, features) pass
    ``batch_first=False``. Equations, ``params`` and their initial values are those of the cell.

    Parameters
    ----------
    input_size, hidden_size, num_heads, forget_gate
        As in :class:`~numpy_xlstm.sLSTMCell`.
    batch_first, dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Notes
    -----
    A state is an :class:`sLSTMState`, or a plain tuple, of h, c, n and m, (B, H) each.

    Examples
    --------
    Two calls on the parts of a sequence give the same outputs as one call on the whole sequence:

    >>> import numpy as np
    >>> from numpy_xlstm import sLSTM
    >>> rng = np.random.default_rng(0)
    >>> slstm = sLSTM(3, 8, num_heads=2, rng=rng)
    >>> x = rng.standard_normal((2, 7, 3))
    >>> whole, state, cache = slstm.forward(x)
    >>> first, state, _ = slstm.forward(x[:, :4])
    >>> second, state, _ = slstm.forward(x[:, 4:], state)
    >>> np.allclose(whole, np.concatenate([first, second], axis=1), rtol=1e-14)
    True
    """

    num_heads, forget_gate = of_cell("num_heads"), of_cell("forget_gate")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        *,
        forget_gate: str = "sigmoid",
        batch_first: bool = True,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        cell = sLSTMCell(
            input_size, hidden_size, num_heads, forget_gate=forget_gate, dtype=dtype, rng=rng
        )
        super().__init__(cell, batch_first=batch_first)
