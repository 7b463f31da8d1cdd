"""Layers made from a cell: with a kernel where there is one, else step by step."""

from collections import namedtuple
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from numpy_xlstm.cells.elman import ElmanCell
from numpy_xlstm.cells.gru import GRUCell
from numpy_xlstm.cells.lstm import LSTMCell
from numpy_xlstm.cells.lstmp import LSTMPCell
from numpy_xlstm.cells.peephole import PeepholeLSTMCell
from numpy_xlstm.cells.slstm import sLSTMCell
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.kernels import elman, gru, lstm, lstmp, peephole, slstm
from numpy_xlstm.layers.base import Recurrent, RunOptions, S
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, check_has, checked_bool, checked_positive
from numpy_xlstm.numerics.initial import drawn_uniformly
from numpy_xlstm.numerics.threads import matmul
from numpy_xlstm.validation import output_size


class Kernel(NamedTuple):
    """Functions that run a cell over whole sequences."""

    projected: Any  # from x, W and b to W x + b
    forward: Any  # from W x + b to outputs
    backward: Any
    options: tuple[str, ...] = ()  # of the cell, which forward takes


KERNELS: dict[type, Kernel] = {
    LSTMCell: Kernel(lstm.CELL.projected, lstm.forward, lstm.backward),
    LSTMPCell: Kernel(lstm.CELL.projected, lstmp.forward, lstmp.backward),
    PeepholeLSTMCell: Kernel(peephole.CELL.projected, peephole.forward, peephole.backward),
    sLSTMCell: Kernel(slstm.CELL.projected, slstm.forward, slstm.backward, ("forget_gate",)),
    GRUCell: Kernel(gru.CELL.projected, gru.forward, gru.backward),
    ElmanCell: Kernel(elman.CELL.projected, elman.forward, elman.backward, ("nonlinearity",)),
}
"""Cells that have a kernel. Every other cell is unrolled; the layer mLSTM has its own kernels."""

KernelCache = namedtuple("KernelCache", "x params kept")
"""The input, the parameters and the residuals of a kernel."""

MATRICES = {"W": ("weight_ih",), "R": ("weight_hh",), "W_hr": ("weight_hr",)}
"""PyTorch's names of a cell's matrices."""

State = TypeVar("State", covariant=True)
"""Type of a cell's state."""


class Cell(Protocol[State]):
    """A cell as seen by a type checker: ``init_state`` gives the type of the layer's state."""

    def init_state(self, batch_size: int) -> State:
        """Return the empty state."""


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
        check_has("cell", cell, "init_state", "forward", "backward")
        for size in ("input_size", "hidden_size"):
            checked_positive(f"cell.{size}", getattr(cell, size, None))
        self.cell: Any = cell
        self.submodules = {"cell": ""}
        self.batch_first = checked_bool("batch_first", batch_first)
        self.input_size = self.in_features = self.cell.input_size
        self.hidden_size, self.out_features = self.cell.hidden_size, output_size(cell)

    @property
    def kernel(self) -> Kernel | None:
        """Entry of the cell in :data:`KERNELS`; None if the cell is unrolled."""
        return None if self.unrolled else KERNELS.get(type(self.cell))

    @property
    def specification(self) -> "SequenceLayer[S] | None":
        """The unrolled cell, which :func:`~numpy_xlstm.gradcheck` compares with a kernel."""
        if self.kernel is None and type(self).compute is SequenceLayer.compute:
            return None
        layer: SequenceLayer[S] = SequenceLayer(self.cell, batch_first=self.batch_first)
        layer.unrolled = True
        return layer

    @property
    def tensor_axes(self) -> Mapping[str, str]:
        """Names that :func:`~numpy_xlstm.gradcheck` gives to the axes of the parameters."""
        return getattr(self.cell, "tensor_axes", {})

    def init_state(self, batch_size: int) -> S:
        state: S = self.cell.init_state(batch_size)
        return state

    def compute(self, x: Array, state: Any, options: RunOptions) -> tuple[Array, Any, Any]:
        if self.kernel is None:
            return unroll(self.cell, x, state, lengths=options.lengths)
        return run_kernel(self.cell, self.params, x, state, options.lengths)

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        if self.kernel is None:
            return unroll_backward(dy, cache, dstate)
        return run_kernel_backward(self.cell, dy, cache, dstate)


def run_kernel(
    cell: Any, params: Mapping[str, Array], x: Array, state: Any, lengths: Array | None
) -> tuple[Array, Any, KernelCache]:
    """Run the kernel of a cell over x, with parameters under the names of the cell's."""
    x, kernel = np.ascontiguousarray(x), KERNELS[type(cell)]  # the backward reads x too
    Wx = kernel.projected(x, params["W"], params["b"])
    options = {name: getattr(cell, name) for name in kernel.options}
    y, state, kept = kernel.forward(Wx, params, state, lengths, **options)
    return y, state, KernelCache(x, params, kept)


def run_kernel_backward(
    cell: Any, dy: Array, cache: KernelCache, dstate: Any
) -> tuple[Array, Any, Grads]:
    """Return the gradients of x, of the first state and of the parameters of :func:`run_kernel`."""
    x, p, kept = cache
    dWx, dstate0, grads = KERNELS[type(cell)].backward(dy, kept, dstate)
    rows = dWx.reshape(-1, dWx.shape[-1])
    dx = matmul(rows, p["W"]).reshape(x.shape)  # [rec.4]
    dW = matmul(rows.T, x.reshape(-1, x.shape[-1]))  # [rec.5]
    grads = {"W": dW, "b": rows.sum(axis=0), **grads}  # [rec.7]
    return dx, dstate0, {name: grads[name].reshape(array.shape) for name, array in p.items()}


class TorchSequence(Recurrent):
    """One direction of one layer of an LSTM, GRU or RNN: a kernel with PyTorch's two biases.

    Attributes
    ----------
    terms : dict[str, tuple[str, ...]]
        For each parameter of the cell, the names of the parameters whose sum it is; none for a bias
        of 0.
    """

    def __init__(self, cell: Any, bias: bool, rng: np.random.Generator) -> None:
        biases: dict[str, tuple[str, ...]] = {"b": ("bias_ih", "bias_hh")}
        if "b_h" in cell.params:  # a GRU scales one of the two
            biases = {"b": ("bias_ih",), "b_h": ("bias_hh",)}
        names = MATRICES | (biases if bias else {})
        self.terms = {name: names.get(name, ()) for name in cell.params}
        shapes = {term: cell.params[n].shape for n, terms in self.terms.items() for term in terms}
        self.params = drawn_uniformly(shapes, cell.hidden_size**-0.5, cell.dtype, rng)
        self.cell, self.in_features, self.out_features = cell, cell.input_size, output_size(cell)
        self.cell = cell.over(self.cell_params())

    def over(self, params: Mapping[str, Array]) -> Self:
        """Return the same layer with other arrays, which are not checked."""
        clone = super().over(params)
        vars(clone)["cell"] = self.cell.over(clone.cell_params())
        return clone

    def cell_params(self) -> dict[str, Array]:
        """Return the parameters of the cell. Matrices are not copied."""
        params: dict[str, Array] = {}
        for name, terms in self.terms.items():
            if len(terms) == 1:
                params[name] = self.params[terms[0]]
            elif terms:
                params[name] = self.params[terms[0]] + self.params[terms[1]]
            else:
                params[name] = np.zeros(self.cell.params[name].shape, self.dtype)
        return params

    def init_state(self, batch_size: int) -> Any:
        return self.cell.init_state(batch_size)

    def compute(self, x: Array, state: Any, options: RunOptions) -> tuple[Array, Any, Any]:
        return run_kernel(self.cell, self.cell_params(), x, state, options.lengths)

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        """Compute the backward without checks; the second bias gets a copy of the gradient."""
        dx, dstate0, grads = run_kernel_backward(self.cell, dy, cache, dstate)
        named = {
            term: grads[name] if n == 0 else grads[name].copy()
            for name, terms in self.terms.items()
            for n, term in enumerate(terms)
        }
        return dx, dstate0, named

    @property
    def tensor_axes(self) -> Mapping[str, str]:
        """Names that :func:`~numpy_xlstm.gradcheck` gives to the axes of the parameters."""
        axes = self.cell.tensor_axes
        return {term: axes[name] for name in axes for term in self.terms.get(name, ())}


def of_cell(name: str) -> Any:
    """Return a property that reads this attribute of the layer's cell."""
    return property(lambda layer: getattr(layer.cell, name))
