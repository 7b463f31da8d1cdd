"""Layers made from a cell: with a kernel where there is one, else step by step."""

from collections import namedtuple
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from numpy_xlstm.cells.elman import ElmanCell
from numpy_xlstm.cells.gru import GRUCell
from numpy_xlstm.cells.lstm import LSTMCell, LSTMState
from numpy_xlstm.cells.lstmp import LSTMPCell
from numpy_xlstm.cells.peephole import PeepholeLSTMCell
from numpy_xlstm.cells.slstm import sLSTMCell
from numpy_xlstm.cells.unroll import check_cell, unroll, unroll_backward
from numpy_xlstm.kernels import elman, gru, lstm, lstmp, peephole, slstm
from numpy_xlstm.layers.base import EVALUATION, Recurrent, RunOptions, S
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, check_bool
from numpy_xlstm.numerics.threads import matmul
from numpy_xlstm.validation import check_cache, output_size

KERNELS: dict[type, tuple[Any, tuple[str, ...]]] = {
    LSTMCell: (lstm, ()),
    LSTMPCell: (lstmp, ()),
    PeepholeLSTMCell: (peephole, ()),
    sLSTMCell: (slstm, ("forget_gate",)),
    GRUCell: (gru, ()),
    ElmanCell: (elman, ("nonlinearity",)),
}
"""Cells that have a kernel: a module whose ``forward`` and ``backward`` map W x + b to outputs over
whole sequences, and the names of the cell's options that ``forward`` takes. Every other cell is
unrolled."""

KernelCache = namedtuple("KernelCache", "x kept")
"""The input and the residuals of a kernel."""


State = TypeVar("State", covariant=True)
"""Type of a cell's state."""


class Cell(Protocol[State]):
    """A cell as seen by a type checker: ``init_state`` gives the type of the layer's state."""

    def init_state(self, batch_size: int) -> State:
        """Return the empty state."""
        ...


class SequenceLayer(Recurrent[S]):
    """A cell over a whole sequence, computed by a kernel if the cell has one, else step by step.

    Parameters
    ----------
    cell : Module
        A built-in or custom cell. It has ``input_size``, ``hidden_size``, ``init_state(B)``, and
        for one step ``forward(x, state)`` and ``backward(dh, cache, dstate)``, as in
        :class:`~numpy_xlstm.LSTMCell`.
    batch_first : bool, default True
        Whether x is (B, T, D). If False, it is (T, B, D), which is PyTorch's default.

    Notes
    -----
    The layer has the parameters of the cell, under the same names. A state may be a plain tuple.

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

    unrolled = False
    """Whether to unroll a cell that has a kernel."""

    cell: Any

    def __init__(self, cell: Cell[S], *, batch_first: bool = True) -> None:
        check_cell(cell)
        self.cell: Any = cell
        self.parts = {"cell": ""}
        self.batch_first = check_bool("batch_first", batch_first)
        self.input_size = self.in_features = self.cell.input_size
        self.hidden_size, self.out_features = self.cell.hidden_size, output_size(cell)

    @property
    def kernel(self) -> tuple[Any, tuple[str, ...]] | None:
        """Entry of the cell in :data:`KERNELS`; None if the cell is unrolled."""
        return None if self.unrolled else KERNELS.get(type(self.cell))

    @property
    def tensor_axes(self) -> Mapping[str, str]:
        """Names that :func:`~numpy_xlstm.gradcheck` gives to the axes of the parameters."""
        return getattr(self.cell, "tensor_axes", {})

    def init_state(self, batch_size: int) -> S:
        """Return the empty state of the cell."""
        state: S = self.cell.init_state(batch_size)
        return state

    def cell_params(self) -> Mapping[str, Array]:
        """Return the parameters of the cell, by its names."""
        params: Mapping[str, Array] = self.cell.params
        return params

    def current_cell(self) -> Any:
        """Return the cell with the present parameters."""
        return self.cell

    def named(self, grads: Mapping[str, Array]) -> Grads:
        """Return gradients of the cell's parameters under the names of ``params``."""
        return {name: grads[name] for name in self.params}

    def compute(
        self, x: Array, state: Any, options: RunOptions = EVALUATION
    ) -> tuple[Array, Any, Any]:
        """Compute the forward without checks. There is no dropout."""
        cell, p, kernel = self.cell, self.cell_params(), self.kernel
        if kernel is None:
            return unroll(self.current_cell(), x, state, lengths=options.lengths)
        (B, T, D), b, (module, names) = x.shape, p["b"], kernel
        Wx = matmul(x.reshape(B * T, D), p["W"].T)
        Wx += b
        Wx = Wx.reshape(B, T, len(b))
        more = {name: getattr(cell, name) for name in names}
        y, state, kept = module.forward(Wx, p, state, options.lengths, **more)
        return y, state, KernelCache(x, kept)

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        """Compute the backward without checks."""
        if self.kernel is None:
            dx, dstate0, grads = unroll_backward(self.current_cell(), dy, cache, dstate)
            return dx, dstate0, self.named(grads)
        check_cache(cache, KernelCache)  # a cell may be unrolled, or have no kernel
        (x, kept), p = cache, self.cell_params()
        dWx, dstate0, grads = self.kernel[0].backward(dy, kept, dstate)
        rows = dWx.reshape(-1, dWx.shape[-1])
        dx = matmul(rows, p["W"]).reshape(x.shape)  # [rec.4]
        dW = matmul(rows.T, x.reshape(-1, x.shape[-1]))  # [rec.5]
        grads = {"W": dW, "b": rows.sum(axis=0), **grads}  # [rec.7]
        return dx, dstate0, self.named({n: grads[n].reshape(p[n].shape) for n in p})


class LSTMSequence(SequenceLayer[LSTMState]):
    """An LSTM over sequences: :class:`LSTMCell` at every step, with the same parameters.

    :class:`~numpy_xlstm.LSTM` is a stack of such layers with the names of PyTorch.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h and c.
    batch_first, **options
        ``batch_first``, ``dtype`` and ``rng`` are as in :class:`~numpy_xlstm.LSTM`.

    Examples
    --------
    >>> import numpy as np
    >>> lstm = LSTMSequence(3, 4, rng=np.random.default_rng(0))
    >>> y, state, cache = lstm.forward(np.ones((2, 5, 3)))
    >>> y.shape, state.c.shape
    ((2, 5, 4), (2, 4))
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, batch_first: bool = True, **options: Any
    ) -> None:
        super().__init__(LSTMCell(input_size, hidden_size, **options), batch_first=batch_first)


def of_cell(name: str) -> Any:
    """Return a property that reads this attribute of the layer's cell."""
    return property(lambda layer: getattr(layer.cell, name))
