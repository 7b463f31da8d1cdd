"""What LSTM, GRU and RNN share: PyTorch's names, its two biases, its start and shapes of states."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from numpy_xlstm.door import check_like
from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers.base import LayerCache, Recurrent
from numpy_xlstm.layers.sequence import SequenceLayer
from numpy_xlstm.layers.stacked import Stacked, levels
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_batch,
    check_bool,
    check_positive,
    generator_or_new,
)
from numpy_xlstm.trees import tree_map

MATRICES = MappingProxyType({"W": ("weight_ih",), "R": ("weight_hh",), "W_hr": ("weight_hr",)})
"""What PyTorch calls those of a cell."""

ONE_BIAS = MappingProxyType({"b": ("bias_ih", "bias_hh")})
"""A cell's b is the sum of PyTorch's two biases."""

TWO_BIASES = MappingProxyType({"b": ("bias_ih",), "b_h": ("bias_hh",)})
"""As in a GRU, which scales one of them."""


class TorchLayer(Recurrent):
    """A sequence layer under PyTorch's names, and with its biases.

    Parameters
    ----------
    layer : SequenceLayer
        The layer. Other parameters are drawn, all uniform in ±1/√H.
    biases : Mapping[str, tuple[str, ...]]
        For each bias of its cell, those of PyTorch of which it is the sum.
    bias : bool
        Whether there are biases; without them those of the cell are 0.
    rng : np.random.Generator
        Source of the parameters.
    """

    takes_lengths = True

    def __init__(
        self,
        layer: SequenceLayer,
        biases: Mapping[str, tuple[str, ...]],
        bias: bool,
        rng: np.random.Generator,
    ) -> None:
        self.in_features, self.out_features = layer.in_features, layer.out_features
        sums = {**MATRICES, **biases} if bias else MATRICES
        self.sums = {name: sums[name] for name in layer.params if name in sums}
        limit, params = layer.hidden_size**-0.5, {}
        for name, terms in self.sums.items():
            for term in terms:
                array = rng.uniform(-limit, limit, layer.params[name].shape)
                params[term] = array.astype(layer.dtype, copy=False)
        self.params, self.layer = params, layer
        self.layer = self.sequence()

    @property
    def tensor_axes(self) -> Mapping[str, str]:
        """What :func:`~numpy_xlstm.gradcheck` calls the entries of the parameters."""
        axes = self.layer.tensor_axes
        return {t: axes[name] for name, terms in self.sums.items() if name in axes for t in terms}

    def over(self, params: Mapping[str, Array]) -> Self:
        """As :meth:`with_params`, without checks: for arrays that have been checked."""
        clone = super().over(params)
        clone.layer = clone.sequence()  # to let go of the arrays before
        return clone

    def sequence(self) -> SequenceLayer:
        """Return the layer with the parameters of the cell: sums of PyTorch's, and 0 for none."""
        params = self.params
        arrays = {
            name: sum((params[term] for term in terms[1:]), params[terms[0]])
            for name, terms in self.sums.items()
        }
        for name, array in self.layer.params.items():
            if name not in arrays:
                arrays[name] = np.zeros(array.shape, self.dtype)
        return self.layer.over(arrays)

    def init_state(self, batch_size: int) -> Any:
        """Return the empty state of the cell."""
        return self.layer.init_state(batch_size)

    def compute(
        self, x: Array, state: Any, rng: Any = None, *, lengths: Array | None = None
    ) -> tuple[Array, Any, Any]:
        """Forward, without checks; there is no dropout."""
        return self.sequence().compute(x, state, lengths=lengths)

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        """Backward, without checks: each term of a sum has the gradient of the sum."""
        dx, dstate0, grads = self.sequence().compute_backward(dy, cache, dstate)
        named = Grads()
        for name, (first, *others) in self.sums.items():
            named |= {first: grads[name], **{term: grads[name].copy() for term in others}}
        return dx, dstate0, named

    def check_cache(self, cache: Any) -> None:
        """Raise :class:`CacheError` unless ``compute`` of such a layer has kept this."""
        self.layer.check_cache(cache)


class UnbatchedCache(NamedTuple):
    """What the backward of one sequence without a batch needs."""

    batch: LayerCache  # of the batch that has this one row
    shape: tuple[int, ...]  # of y


class RNNBase(Stacked):
    """What LSTM, GRU and RNN have in common: all but the cell.

    Attributes
    ----------
    State : type
        Of the cell's state. The state here has the same arrays with one axis more, in front, for
        the layers and directions; or is that array, if it is one.
    biases : Mapping[str, tuple[str, ...]]
        As in :class:`TorchLayer`.
    """

    State: ClassVar[Any]
    biases: ClassVar[Mapping[str, tuple[str, ...]]] = ONE_BIAS

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
        rng: np.random.Generator | None = None,
    ) -> None:
        check_bool("bias", bias)
        check_positive("input_size", input_size)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.bidirectional = bias, bidirectional
        draws = generator_or_new(rng)

        def make(width: int) -> Recurrent:
            layer = self.sequence_layer(width, dtype=dtype, rng=draws)
            return TorchLayer(layer, self.biases, bias, draws)

        layers = levels(make, input_size, num_layers, bidirectional, draws)
        super().__init__(layers, dropout=dropout, batch_first=batch_first)

    def sequence_layer(self, width: int, **options: Any) -> SequenceLayer:
        """Return one layer and direction, for inputs of this width."""
        raise NotImplementedError

    def init_state(self, batch_size: int) -> Any:
        """Return the empty state: zeros, (num_layers · directions, B, ·)."""
        return self.outer_state(super().init_state(batch_size))

    def inner_state(self, state: Any) -> Any:
        """A state of the cell for each layer and direction."""
        arrays = state if isinstance(state, tuple) else (state,)
        return tuple(self.State(*each) for each in zip(*arrays, strict=True))

    def outer_state(self, state: Any) -> Any:
        """The states of all layers and directions in the arrays of one, or in one array."""
        arrays = self.State(*map(np.array, zip(*state, strict=True)))
        return arrays if len(arrays) > 1 else arrays[0]

    def forward(
        self,
        x: Array,
        state: Any = None,
        *,
        rng: np.random.Generator | None = None,
        lengths: Array | None = None,
    ) -> tuple[Array, Any, Any]:
        """Run over sequences, as :meth:`sLSTM.forward`, or over one without a batch.

        Parameters
        ----------
        x : np.ndarray
            Inputs, shape (B, T, D), or (T, B, D) if not ``batch_first``, or (T, D).
        state : tuple or np.ndarray, optional
            State before the first step, of arrays (num_layers · directions, B, ·), or
            (num_layers · directions, ·) for x (T, D). The first axis is layer 0, layer 0 reverse,
            layer 1, and so on.
        rng, lengths
            As there. A reverse direction begins at the last step of each row that is there.

        Returns
        -------
        y, state, cache
            As there, y and state without a batch if x has none.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError, OptionError
            If an argument is not as described.
        """
        if getattr(x, "ndim", None) != 2:
            return super().forward(x, state, rng=rng, lengths=lengths)
        x, state = self._with_batch(x, state, lengths)
        y, state, cache = super().forward(x, state, rng=rng)
        y = y.squeeze(self._batch_axis)
        return y, _row(state), UnbatchedCache(cache, y.shape)

    def backward(self, dy: Array, cache: Any, dstate: Any = None) -> tuple[Array, Any, Grads]:
        """Vector-Jacobian product of :meth:`forward`, as :meth:`sLSTM.backward`.

        ``dy``, ``dstate`` and the gradients of x and of the first state have the shapes that y,
        state and x had there.
        """
        if not isinstance(cache, UnbatchedCache):
            return super().backward(dy, cache, dstate)
        dy = np.expand_dims(check_array("dy", dy, cache.shape, self.dtype), self._batch_axis)
        dstate = self._state_with_batch("dstate", dstate)
        dx, dstate0, grads = super().backward(dy, cache.batch, dstate)
        return dx.squeeze(self._batch_axis), _row(dstate0), grads

    def __call__(
        self, x: Array, state: Any = None, *, lengths: Array | None = None
    ) -> tuple[Array, Any]:
        """Evaluate: outputs and final state, in the shapes of :meth:`forward`."""
        if getattr(x, "ndim", None) != 2:
            return super().__call__(x, state, lengths=lengths)
        y, state = super().__call__(*self._with_batch(x, state, lengths))
        return y.squeeze(self._batch_axis), _row(state)

    def check_input(self, x: Any) -> None:
        """Raise an error unless x is a batch of sequences, in the layout of the caller."""
        shape, hint = (
            (*self._order, self.in_features),
            f"(time, {self.in_features}) without a batch",
        )
        check_array("x", x, shape, self.dtype, hint=hint)
        check_batch("x", x, axis=self._batch_axis)

    @property
    def _batch_axis(self) -> int:
        """Of x and y."""
        return self._order.index("batch")

    def _with_batch(self, x: Array, state: Any, lengths: Any) -> tuple[Array, Any]:
        """Check x (T, D) and its state, and return both as those of a batch of one row."""
        check_array("x", x, ("time", self.in_features), self.dtype)
        if lengths is not None:
            raise OptionError(f"lengths: expected None, as x has no batch; got {lengths!r}")
        return np.expand_dims(x, self._batch_axis), self._state_with_batch("state", state)

    def _state_with_batch(self, name: str, state: Any) -> Any:
        """Check a state without a batch, and return it as that of one row."""
        if state is None:
            return None
        like = _row(self.init_state(1))
        return tree_map(lambda a: a[:, None], check_like(name, state, like, "x has no batch"))


def _row(state: Any) -> Any:
    """The state of the one row of a batch."""
    return tree_map(lambda a: a.squeeze(1), state)
