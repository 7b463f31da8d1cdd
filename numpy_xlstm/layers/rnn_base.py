"""Common code of LSTM, GRU and RNN: PyTorch's names, two biases, initialisation, state shapes."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import drawn_uniformly
from numpy_xlstm.layers.base import EVALUATION, LayerCache, Recurrent, RunOptions, S
from numpy_xlstm.layers.sequence import SequenceLayer
from numpy_xlstm.layers.stacked import Stacked, levels
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_batch_size,
    check_bool,
    check_positive,
    generator_or_new,
)
from numpy_xlstm.trees import tree_map
from numpy_xlstm.validation import check_like

MATRICES = {"W": "weight_ih", "R": "weight_hh", "W_hr": "weight_hr"}
"""PyTorch's names of a cell's matrices."""


class TorchSequence(SequenceLayer):
    """One direction of one layer of an LSTM, GRU or RNN, with PyTorch's names.

    Attributes
    ----------
    terms : dict[str, tuple[str, ...]]
        For each parameter of the cell, the names of the parameters whose sum it is; none for a bias
        of 0.
    """

    def __init__(self, cell: Any, bias: bool, rng: np.random.Generator) -> None:
        super().__init__(cell)
        names: dict[str, tuple[str, ...]] = {name: (term,) for name, term in MATRICES.items()}
        if bias and "b_h" in cell.params:  # a GRU scales one of the two
            names |= {"b": ("bias_ih",), "b_h": ("bias_hh",)}
        elif bias:
            names |= {"b": ("bias_ih", "bias_hh")}
        self.terms = {name: names.get(name, ()) for name in cell.params}
        shapes = {term: cell.params[n].shape for n, terms in self.terms.items() for term in terms}
        self.parts = {}
        self.params = drawn_uniformly(shapes, cell.hidden_size**-0.5, cell.dtype, rng)
        self.cell = cell.over(self.cell_params())

    def over(self, params: Mapping[str, Array]) -> Self:
        """Return the same layer with other arrays, which are not checked."""
        clone = super().over(params)
        clone.cell = self.cell.over(clone.cell_params())
        return clone

    def cell_params(self) -> Mapping[str, Array]:
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

    def current_cell(self) -> Any:
        """Return the cell with the present parameters."""
        return self.cell.over(self.cell_params())

    def named(self, grads: Mapping[str, Any]) -> Grads:
        """Return gradients with PyTorch's names; the second bias gets a copy."""
        return {
            term: grads[name] if n == 0 else grads[name].copy()
            for name, terms in self.terms.items()
            for n, term in enumerate(terms)
        }

    @property
    def tensor_axes(self) -> Mapping[str, str]:
        """Names that :func:`~numpy_xlstm.gradcheck` gives to the axes of the parameters."""
        axes = self.cell.tensor_axes
        return {term: axes[name] for name in axes for term in self.terms.get(name, ())}


class RNNBase(Stacked[S]):
    """Base class of LSTM, GRU and RNN: a stack whose state has an axis of layers.

    Attributes
    ----------
    State : type
        Type of the cell's state. The state of this object has the same arrays with an additional
        first axis for the layers and directions. If the state has only one array, it is that array
        itself and not a tuple.
    """

    State: ClassVar[Any]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        check_positive("input_size", input_size)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.bidirectional = check_bool("bias", bias), bidirectional
        draws = generator_or_new(rng)

        def make(width: int) -> Recurrent:
            cell = self.make_cell(width, dtype=dtype, rng=draws)
            return TorchSequence(cell, bias, draws)

        layers = levels(make, input_size, num_layers, bidirectional, draws)
        super().__init__(layers, dropout=dropout, batch_first=batch_first)
        self._widths = [array.shape[1] for array in self.layers[0].init_state(1)]

    def make_cell(self, width: int, **options: Any) -> Any:
        """Make the cell of one direction of a layer, for inputs of this width."""
        raise NotImplementedError

    def init_state(self, batch_size: int) -> S:
        """Return the empty state: zeros, (num_layers · directions, B, ·)."""
        leading = len(self.layers), check_batch_size(batch_size)
        arrays = self.State(*(np.zeros((*leading, n), self.dtype) for n in self._widths))
        state: S = arrays if len(arrays) > 1 else arrays[0]
        return state

    def inner_state(self, state: Any) -> Any:
        """Split a state into one state of the cell for each layer and direction."""
        arrays = state if isinstance(state, tuple) else (state,)
        return tuple(map(self.State, *arrays))

    def outer_state(self, states: Any) -> S:
        """Join the states of all layers and directions along a new first axis."""
        arrays = self.State(*map(np.array, zip(*states, strict=True)))
        state: S = arrays if len(arrays) > 1 else arrays[0]
        return state

    def compute(
        self, x: Array, state: Any, options: RunOptions = EVALUATION
    ) -> tuple[Array, Any, Any]:
        """Compute the forward without checks; a stack of one layer is that layer."""
        if len(self.layers) > 1:
            return super().compute(x, state, options)
        y, after, kept = self.layers[0].compute(x, state[0], options)
        return y, (after,), kept

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        """Compute the backward without checks."""
        if len(self.layers) > 1:
            return super().compute_backward(dy, cache, dstate)
        dx, dstate0, grads = self.layers[0].compute_backward(dy, cache, dstate[0])
        return dx, (dstate0,), self.named_grads(layers=[grads])

    def forward(
        self,
        x: Array,
        state: Any = None,
        *,
        rng: np.random.Generator | None = None,
        lengths: Array | None = None,
    ) -> tuple[Array, S, LayerCache]:
        """Run over a batch of sequences or one sequence, and keep residuals for the backward.

        Parameters
        ----------
        x : np.ndarray
            Inputs, shape (B, T, D), or (T, B, D) if not ``batch_first``, or (T, D).
        state : tuple or np.ndarray, optional
            State before the first step, of arrays (num_layers · directions, B, ·), or
            (num_layers · directions, ·) for x (T, D). The first axis is layer 0, layer 0 reverse,
            layer 1, and so on.
        rng, lengths
            As in :meth:`SequenceLayer.forward`. A reverse direction begins at the last step of each
            row before the padding.

        Returns
        -------
        y, state, cache
            As from :meth:`SequenceLayer.forward`, in the layouts of x and of the state above.
        """
        if getattr(x, "ndim", None) == 2:
            y, after, cache = self.forward(*self._with_batch(x, state), rng=rng, lengths=lengths)
            y = y.squeeze(self._batch_axis)
            return y, _row(after), cache._replace(shape=y.shape)
        y, states, cache = super().forward(x, state, rng=rng, lengths=lengths)
        return y, self.outer_state(states), cache

    def backward(self, dy: Array, cache: LayerCache, dstate: Any = None) -> tuple[Array, S, Grads]:
        """Do the same as :meth:`SequenceLayer.backward`, in the shapes of :meth:`forward`."""
        if len(getattr(cache, "shape", ())) == 2:
            self.check_backward(dy, cache)
            dy, dstate = np.expand_dims(dy, self._batch_axis), self._one_row("dstate", dstate)
            dx, dstate0, grads = self.backward(dy, cache._replace(shape=dy.shape), dstate)
            return dx.squeeze(self._batch_axis), _row(dstate0), grads
        dx, dstates, grads = super().backward(dy, cache, dstate)
        return dx, self.outer_state(dstates), grads

    def __call__(
        self, x: Array, state: Any = None, *, lengths: Array | None = None
    ) -> tuple[Array, S]:
        """Return outputs and final state without a cache, in the shapes of :meth:`forward`."""
        if getattr(x, "ndim", None) == 2:
            y, after = self(*self._with_batch(x, state), lengths=lengths)
            return y.squeeze(self._batch_axis), _row(after)
        y, states = super().__call__(x, state, lengths=lengths)
        return y, self.outer_state(states)

    def _input_hint(self) -> str:
        """Return the hint of an error about the shape of x."""
        return f"; (time, {self.in_features}) without a batch{super()._input_hint()}"

    @property
    def _batch_axis(self) -> int:
        """Index of the batch axis of x and y."""
        return 0 if self.batch_first else 1

    def _with_batch(self, x: Array, state: Any) -> tuple[Array, Any]:
        """Check x (T, D) and its state, and return both with a batch axis of length 1."""
        check_array("x", x, ("time", self.in_features), self.dtype)
        return np.expand_dims(x, self._batch_axis), self._one_row("state", state)

    def _one_row(self, name: str, state: Any) -> Any:
        """Check a state without a batch axis, and return it with one of length 1."""
        if state is None:
            return None
        state = check_like(name, state, _row(self.init_state(1)), lambda: "; x has no batch")
        return tree_map(lambda a: a[:, None], state)


def _row(state: Any) -> Any:
    """Remove the batch axis, of length 1, from a state."""
    return tree_map(lambda a: a.squeeze(1), state)
