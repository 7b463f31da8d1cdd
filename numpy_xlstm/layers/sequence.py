"""Layers that have a cell: any cell, step by step; LSTM and its kin by a kernel."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from numpy_xlstm.cells.unroll import UnrollCache, check_cell, unroll, unroll_backward
from numpy_xlstm.door import output_size
from numpy_xlstm.kernels.scan import padding
from numpy_xlstm.layers.base import Recurrent
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, check_bool


class SequenceLayer(Recurrent):
    """A cell over a whole sequence, step by step.

    Parameters
    ----------
    cell : Module
        Has ``input_size``, ``hidden_size``, ``init_state(B)``, and ``forward(x, state)`` and
        ``backward(dh, cache, dstate)`` of one step, as has :class:`~numpy_xlstm.LSTMCell`.
    batch_first : bool, default True
        Whether x is (B, T, D), or (T, B, D), which is PyTorch's default.

    Notes
    -----
    Parameters are those of the cell, under its names. A state may be a plain tuple.

    ``in_features`` and ``out_features``, the widths of x and y, are the cell's ``input_size`` and
    its ``hidden_size``, or ``proj_size`` if it projects h.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm.cells import LSTMCell
    >>> rng = np.random.default_rng(0)
    >>> layer = SequenceLayer(LSTMCell(3, 4, rng=rng))
    >>> y, state, cache = layer.forward(rng.standard_normal((2, 5, 3)))
    >>> dx, dstate0, grads = layer.backward(rng.standard_normal(y.shape), cache)
    >>> y.shape, dx.shape, sorted(grads)
    ((2, 5, 4), (2, 5, 3), ['R', 'W', 'b'])
    """

    Cache: ClassVar[type] = UnrollCache
    takes_lengths = True

    def __init__(self, cell: Any, *, batch_first: bool = True) -> None:
        check_cell(cell)
        self.cell, self.parts = cell, {"cell": ""}
        self.batch_first = check_bool("batch_first", batch_first)
        self.input_size = self.in_features = cell.input_size
        self.hidden_size, self.out_features = cell.hidden_size, output_size(cell)

    @property
    def tensor_axes(self) -> Mapping[str, str]:
        """What :func:`~numpy_xlstm.gradcheck` calls the entries of the parameters."""
        return getattr(self.cell, "tensor_axes", {})

    def init_state(self, batch_size: int) -> Any:
        """Return the empty state of the cell."""
        return self.cell.init_state(batch_size)

    def compute(
        self, x: Array, state: Any, rng: Any = None, *, lengths: Array | None = None
    ) -> tuple[Array, Any, Any]:
        """Forward, without checks; there is no dropout."""
        return unroll(self.cell, x, state, lengths=lengths)

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        """Backward, without checks."""
        return unroll_backward(self.cell, dy, cache, dstate)


def of_cell(name: str) -> Any:
    """Return a property of a layer that is its cell's."""
    return property(lambda layer: getattr(layer.cell, name))


class GatedLayer(SequenceLayer):
    """A cell of W x + R h₋ + b: one product for all steps, and then a kernel."""

    kernel: ClassVar[Any]
    """The module of the kernel: ``forward`` and ``backward``."""

    @property
    def options(self) -> dict[str, Any]:
        """What else its forward is to know."""
        return {}

    def compute(
        self, x: Array, state: Any, rng: Any = None, *, lengths: Array | None = None
    ) -> tuple[Array, Any, Any]:
        """Forward, without checks; there is no dropout."""
        B, T, D = x.shape
        W, R, b = (self.params[name] for name in "WRb")
        ends = np.full(B, T) if lengths is None else lengths
        there = x if lengths is None else np.where(padding(ends, T)[..., None], 0, x)
        Wx, R_heads = there.reshape(-1, D) @ W.T, R.reshape(-1, 4 * R.shape[-1], R.shape[-1])
        Wx += b
        Wx = Wx.reshape(B, T, len(b))
        y, state, scan = self.kernel.forward(Wx, R_heads, state, ends, **self.options)
        return y, state, self.Cache(x, scan)

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        """Backward, without checks."""
        x, scan = cache
        dWx, dR, dstate0 = self.kernel.backward(dy, scan, dstate)
        W, R = self.params["W"], self.params["R"]
        rows = dWx.reshape(-1, len(W))
        dx = (rows @ W).reshape(x.shape)  # [rec.3]
        dW = rows.T @ x.reshape(-1, x.shape[-1])  # [rec.4]
        db = rows.sum(axis=0)  # [rec.6]
        return dx, dstate0, {"W": dW, "R": dR.reshape(R.shape), "b": db}
