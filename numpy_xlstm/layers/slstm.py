"""sLSTM over a sequence."""

import numpy as np
import numpy.typing as npt

from numpy_xlstm.kernels import slstm
from numpy_xlstm.kernels.scan import row_lengths
from numpy_xlstm.layers.sequence import (
    SequenceCache,
    SequenceLayer,
    input_product,
    input_product_backward,
)
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array
from numpy_xlstm.spec.gates import check_memory
from numpy_xlstm.spec.slstm import sLSTMCell, sLSTMState


class sLSTM(SequenceLayer):
    """An sLSTM over a sequence: :class:`sLSTMCell` at every step, with the same parameters.

    Parameters
    ----------
    input_size, hidden_size, num_heads, forget_gate, dtype, rng
        As in :class:`sLSTMCell`.
    batch_first : bool, default True
        Whether x is (B, T, D), or (T, B, D).

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        As in :class:`sLSTMCell`.

    Examples
    --------
    A sequence in two calls is the sequence in one:

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

    kept_by_kernel = slstm.sLSTMScanCache

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        *,
        forget_gate: str = "sigmoid",
        batch_first: bool = True,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        cell = sLSTMCell(
            input_size, hidden_size, num_heads, forget_gate=forget_gate, dtype=dtype, rng=rng
        )
        super().__init__(cell, batch_first=batch_first)
        self.num_heads, self.forget_gate = cell.num_heads, cell.forget_gate

    def check_state(self, state: sLSTMState) -> None:
        """Raise :class:`StateError` if n is negative, or 0 beside a c that is not."""
        check_memory(state.c, state.n)

    def compute(
        self, x: Array, state: sLSTMState, lengths: Array | None = None
    ) -> tuple[Array, sLSTMState, SequenceCache]:
        """Forward of x (B, T, D), without checks."""
        W, R, b = (self.params[name] for name in "WRb")
        Wx, ends = input_product(x, W, b, lengths), row_lengths(lengths, *x.shape[:2])
        y, state, kept = slstm.forward(Wx, R, state, ends, self.forget_gate)
        return y, state, SequenceCache(x, kept)

    def compute_backward(
        self, dy: Array, cache: SequenceCache, dstate: sLSTMState
    ) -> tuple[Array, sLSTMState, Grads]:
        """Backward of dy (B, T, H), without checks."""
        dWx, dR, dstate0 = slstm.backward(dy, cache.kept, dstate)
        dx, dW, db = input_product_backward(dWx, cache.x, self.params["W"])
        return dx, dstate0, {"W": dW, "R": dR, "b": db}
