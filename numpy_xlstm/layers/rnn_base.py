"""Common code of LSTM, GRU and RNN: PyTorch's names, two biases, initialisation, state shapes."""

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers.base import EVALUATION, Recurrent, RunOptions, S
from numpy_xlstm.layers.cache import LayerCache
from numpy_xlstm.layers.sequence import SequenceLayer
from numpy_xlstm.layers.stacked import Stacked, StackedCache, levels
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
from numpy_xlstm.validation import check_like

MATRICES = MappingProxyType({"W": ("weight_ih",), "R": ("weight_hh",), "W_hr": ("weight_hr",)})
"""PyTorch's names of a cell's matrices."""

ONE_BIAS = MappingProxyType({"b": ("bias_ih", "bias_hh")})
"""A cell's b is the sum of PyTorch's two biases."""

TWO_BIASES = MappingProxyType({"b": ("bias_ih",), "b_h": ("bias_hh",)})
"""A GRU keeps both biases, because it scales one of them."""


class RNNBase(Recurrent[S]):
    """Base class of LSTM, GRU and RNN: everything except the cell.

    Attributes
    ----------
    State : type
        Type of the cell's state. The state of this object has the same arrays with an additional
        first axis for the layers and directions. If the state has only one array, it is that array
        itself and not a tuple.
    biases : Mapping[str, tuple[str, ...]]
        For each bias of the cell, the names of the PyTorch biases whose sum it is.
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
        rng: np.random.Generator | int | None = None,
    ) -> None:
        check_bool("bias", bias)
        check_positive("input_size", input_size)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.bidirectional = bias, bidirectional
        self.batch_first = check_bool("batch_first", batch_first)
        draws, drawn = generator_or_new(rng), list[list[Array]]()
        known = {**MATRICES, **self.biases} if bias else MATRICES

        def make(width: int) -> Recurrent:
            layer = self.sequence_layer(width, dtype=dtype, rng=draws)
            shapes = [layer.params[n].shape for n in layer.params if n in known for _ in known[n]]
            limit = hidden_size**-0.5
            drawn.append([draws.uniform(-limit, limit, s).astype(layer.dtype) for s in shapes])
            return layer

        made = levels(make, input_size, num_layers, bidirectional, draws)
        self._stack = Stacked(made, dropout=dropout)
        self.terms = {}
        for suffix, layer in zip(self._stack.suffixes, self._stack.layers, strict=True):
            for name in layer.params:
                self.terms[name + suffix] = [term + suffix for term in known.get(name, ())]
        names = [term for terms in self.terms.values() for term in terms]
        self.params = dict(zip(names, chain(*drawn), strict=True))
        self.in_features, self.out_features = input_size, self._stack.out_features
        self.dropout, self.causal = self._stack.dropout, not bidirectional
        self._bind()

    def _bind(self) -> None:
        """Set the arrays of the stack.

        These are the parameters of this object, and new arrays for sums of two biases and for
        biases that this object does not have.
        """
        own = {n: np.zeros(array.shape, self.dtype) for n, array in self._stack.params.items()}
        named = {n: self.params[ts[0]] for n, ts in self.terms.items() if len(ts) == 1}
        self._stack, self._bound = self._stack.over(own | named), self._arrays

    def over(self, params: Mapping[str, Array]) -> Self:
        """Do the same as :meth:`with_params`, without checks, for validated arrays."""
        clone = super().over(params)
        clone._bind()
        return clone

    @property
    def tensor_axes(self) -> Mapping[str, str]:
        """Names that :func:`~numpy_xlstm.gradcheck` gives to the axes of the parameters."""
        axes = self._stack.tensor_axes
        return {t: axes[name] for name, terms in self.terms.items() if name in axes for t in terms}

    def sequence_layer(self, width: int, **options: Any) -> SequenceLayer:
        """Make one direction of a layer, for inputs of this width."""
        raise NotImplementedError

    def compute(
        self, x: Array, state: Any, options: RunOptions = EVALUATION
    ) -> tuple[Array, Any, StackedCache]:
        """Compute the forward without checks."""
        if self._bound is not self._arrays:
            self._bind()
        for name, terms in self.terms.items():
            if len(terms) > 1:
                first, second = (self.params[term] for term in terms)
                np.add(first, second, out=self._stack.params[name])
        return self._stack.compute(x, state, options)

    def compute_backward(
        self, dy: Array, cache: StackedCache, dstate: Any
    ) -> tuple[Array, Any, Grads]:
        """Compute the backward without checks. Each term of a sum has the gradient of the sum."""
        dx, dstate0, found = self._stack.compute_backward(dy, cache, dstate)
        grads = {t: found[name] for name, terms in self.terms.items() for t in terms[:1]}
        grads |= {t: found[name].copy() for name, terms in self.terms.items() for t in terms[1:]}
        return dx, dstate0, {name: grads[name] for name in self.params}

    def check_cache(self, cache: Any) -> None:
        """Raise :class:`CacheError` unless ``compute`` of this kind of layer made the residuals."""
        self._stack.check_cache(cache)

    def init_state(self, batch_size: int) -> S:
        """Return the empty state: zeros, (num_layers · directions, B, ·)."""
        return self.outer_state(self.inner_start(batch_size))

    def inner_start(self, batch_size: int) -> Any:
        """Return the empty state in the layout of ``compute``."""
        return self._stack.init_state(batch_size)

    def inner_state(self, state: Any) -> Any:
        """Split a state into one state of the cell for each layer and direction."""
        arrays = state if isinstance(state, tuple) else (state,)
        return tuple(self.State(*each) for each in zip(*arrays, strict=True))

    def outer_state(self, state: Any) -> S:
        """Stack the states of all layers and directions along a new first axis."""
        arrays = self.State(*map(np.array, zip(*state, strict=True)))
        outer: S = arrays if len(arrays) > 1 else arrays[0]
        return outer

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
        rng : np.random.Generator, optional
            Generator for dropout. If omitted, nothing is dropped.
        lengths : np.ndarray, optional
            Number of steps of each batch row, integers (B,) from 0 to T; T if omitted. Later steps
            are padding: they change no state, and their outputs and gradients are 0. A reverse
            direction begins at the last step of each row before the padding.

        Returns
        -------
        y : np.ndarray
            Outputs, shape (B, T, H), (T, B, H) or (T, H), as x. The width is P instead of H with
            ``proj_size``, and twice as large if ``bidirectional``.
        state : tuple or np.ndarray
            State after the last step of each row, without a batch axis if x has none.
        cache : LayerCache
            Residuals for :meth:`backward`. They share memory with inputs, outputs and parameters:
            do not modify these arrays until ``backward`` has run.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError, OptionError
            If an argument is invalid.
        """
        if getattr(x, "ndim", None) != 2:
            return super().forward(x, state, rng=rng, lengths=lengths)
        x, state = self._with_batch(x, state, lengths)
        y, state, cache = super().forward(x, state, rng=rng)
        y = y.squeeze(self._batch_axis)
        return y, _row(state), cache._replace(kept=cache, shape=y.shape)

    def backward(self, dy: Array, cache: LayerCache, dstate: Any = None) -> tuple[Array, S, Grads]:
        """Return the vector-Jacobian product of :meth:`forward`.

        Parameters
        ----------
        dy : np.ndarray
            Cotangent of the outputs, in their shape.
        cache : LayerCache
            The cache that :meth:`forward` returned. It is not modified and can be used again.
        dstate : tuple or np.ndarray, optional
            Cotangent of the state after the last step; zero if omitted.

        Returns
        -------
        dx : np.ndarray
            Gradient of the inputs, in their shape.
        dstate0 : tuple or np.ndarray
            Gradient of the state before the first step.
        grads : dict[str, np.ndarray]
            Gradients of the parameters, under the names of ``params``.

        Raises
        ------
        CacheError
            If ``cache`` was not made by a layer of this configuration.
        ShapeError, DTypeError, NonFiniteError
            If a cotangent has another shape or dtype than the result of that forward, or is not
            finite.
        """
        # For x without a batch, this is the cache of the same sequence as a batch of one row.
        batch = getattr(cache, "kept", None)
        if not isinstance(batch, LayerCache):
            return super().backward(dy, cache, dstate)
        dy = np.expand_dims(check_array("dy", dy, cache.shape, self.dtype), self._batch_axis)
        dstate = self._state_with_batch("dstate", dstate)
        dx, dstate0, grads = super().backward(dy, batch, dstate)
        return dx.squeeze(self._batch_axis), _row(dstate0), grads

    def __call__(
        self, x: Array, state: Any = None, *, lengths: Array | None = None
    ) -> tuple[Array, S]:
        """Return outputs and final state without a cache, in the shapes of :meth:`forward`."""
        if getattr(x, "ndim", None) != 2:
            return super().__call__(x, state, lengths=lengths)
        y, state = super().__call__(*self._with_batch(x, state, lengths))
        return y.squeeze(self._batch_axis), _row(state)

    def check_input(self, x: Any) -> None:
        """Raise an error unless x is a batch of sequences in the caller's layout."""
        hint = self._hint(f"(time, {self.in_features}) without a batch")
        check_array("x", x, (*self._order, self.in_features), self.dtype, hint=hint)
        check_batch("x", x, axis=self._batch_axis)

    @property
    def _batch_axis(self) -> int:
        """Index of the batch axis of x and y."""
        return self._order.index("batch")

    def _with_batch(self, x: Array, state: Any, lengths: Any) -> tuple[Array, Any]:
        """Check x (T, D) and its state, and return both with a batch axis of length 1."""
        check_array("x", x, ("time", self.in_features), self.dtype)
        if lengths is not None:
            raise OptionError(f"lengths: expected None, as x has no batch; got {lengths!r}")
        return np.expand_dims(x, self._batch_axis), self._state_with_batch("state", state)

    def _state_with_batch(self, name: str, state: Any) -> Any:
        """Check a state without a batch axis, and return it with one of length 1."""
        if state is None:
            return None
        like = _row(self.init_state(1))
        return tree_map(lambda a: a[:, None], check_like(name, state, like, "x has no batch"))


def _row(state: Any) -> Any:
    """Remove the batch axis, of length 1, from a state."""
    return tree_map(lambda a: a.squeeze(1), state)
