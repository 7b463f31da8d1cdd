"""LSTM over a sequence."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.lstm import LSTMCell
from numpy_xlstm.errors import OptionError
from numpy_xlstm.kernels import lstm
from numpy_xlstm.layers.sequence import GatedLayer
from numpy_xlstm.numerics import Array


class LSTMCache(NamedTuple):
    """What the backward of an LSTM needs: x, and what the kernel has kept."""

    x: Array
    scan: lstm.LSTMScanCache


class LSTM(GatedLayer):
    """An LSTM over a sequence: :class:`LSTMCell` at every step, with the same parameters.

    Parameters
    ----------
    input_size, hidden_size, dtype, rng
        As in :class:`LSTMCell`.
    num_layers : int, default 1
        There for the call ``nn.LSTM(D, H, 1)``; only 1 is accepted. Stack layers by feeding the
        outputs of one to the next.
    batch_first : bool, default True
        Whether x is (B, T, D), or (T, B, D), which is the default of ``torch.nn.LSTM``.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        As in :class:`LSTMCell`. From PyTorch: ``W`` is ``weight_ih_l0``, ``R`` is
        ``weight_hh_l0`` and ``b`` is ``bias_ih_l0 + bias_hh_l0``.

    Notes
    -----
    A state is an :class:`LSTMState` or a plain tuple (h, c) of (B, H) arrays. Arrays of shape
    (1, B, H), as PyTorch has them, are taken too, and then returned likewise.

    Examples
    --------
    PyTorch's own call, sequence-first, and what the backward needs:

    >>> import numpy as np
    >>> from numpy_xlstm import LSTM
    >>> rng = np.random.default_rng(0)
    >>> lstm = LSTM(5, 5, 1, batch_first=False, rng=rng)
    >>> x = rng.standard_normal((2, 10, 5))
    >>> h0, c0 = rng.standard_normal((2, 1, 10, 5))
    >>> out, (h, c) = lstm(x, (h0, c0))
    >>> out, state, cache = lstm.forward(x, (h0, c0))
    >>> dx, dstate0, grads = lstm.backward(rng.standard_normal(out.shape), cache)
    >>> dx.shape, dstate0.c.shape, sorted(grads)
    ((2, 10, 5), (1, 10, 5), ['R', 'W', 'b'])
    """

    Cache = LSTMCache
    kernel: ClassVar[Any] = lstm
    num_heads = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = True,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        if num_layers != 1:
            raise OptionError(
                f"num_layers: expected 1, layers are stacked by feeding one's outputs to the next; "
                f"got {num_layers!r}"
            )
        cell = LSTMCell(input_size, hidden_size, dtype=dtype, rng=rng)
        super().__init__(cell, batch_first=batch_first)
