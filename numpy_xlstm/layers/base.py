"""The two kinds of layers: maps of the last axis, and maps of sequences with a state.

Each has a public pair, ``forward`` and ``backward``, which validates its arguments, and an inner
pair, ``compute`` and ``compute_backward``, which does not. Stacks, blocks and models call the inner
pair of their parts, so that arguments are checked once.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np

from numpy_xlstm.errors import DTypeError, ShapeError
from numpy_xlstm.kernels.common import padding
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_batch,
    check_generator,
    own_error_state,
)
from numpy_xlstm.numerics.threads import one_blas_thread
from numpy_xlstm.validation import check_cache, check_maker, checked_call, checked_cotangent

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # comes with the type checker; not needed to run

    S = TypeVar("S", default=Any)
else:
    from typing import TypeVar

    S = TypeVar("S")
"""Type of a state; a type checker takes Any where it is not given."""

Map = Callable[[Array], Array]
"""The decode step of a map of the last axis: from x to y."""

Step = Callable[[Array, Any], tuple[Array, Any]]
"""A decode step: from rows (B, D) and the state before it to rows and the state after it."""

EVALUATION_BLOCK = 256
"""Number of steps that evaluation computes at a time, which bounds its memory."""


class RunOptions(NamedTuple):
    """Options of one run over a batch of sequences."""

    rng: np.random.Generator | None = None  # for dropout; without it, nothing is dropped
    lengths: Array | None = None  # steps of each row, (B,), before padding; None for T of all rows


class LayerCache(NamedTuple):
    """Residuals of a layer, the layer, and a description of the outputs."""

    kept: Any  # residuals that ``compute`` returned
    lengths: Array | None  # of the rows; None if all rows are full, or if there is no time axis
    shape: tuple[int, ...]  # of y, in the layout of the caller
    dtype: np.dtype[Any]  # of y
    layer: Any  # the layer that made this cache


class BaseLayer(Module):
    """A module whose ``forward`` and ``backward`` check their arguments."""

    in_features: int
    """Width of the input."""
    out_features: int
    """Width of the output."""

    def __init_subclass__(cls) -> None:
        """Give a class with its own ``compute``, and no decode step, the one that calls it."""
        super().__init_subclass__()
        if "compute" in vars(cls) and "decode_step" not in vars(cls):
            default: Any = Recurrent if issubclass(cls, Recurrent) else Layer
            cls.decode_step = default.decode_step  # type: ignore[attr-defined]

    def copied(self) -> Any:
        """Return the same module with copies of its parameters."""
        return self.over({name: array.copy() for name, array in self.params.items()})

    def check_backward(self, dy: Any, cache: Any) -> None:
        """Raise an error unless this layer made the cache, and dy has the shape of the outputs."""
        if self.is_narrow:
            raise DTypeError(
                "backward: expected parameters in float32 or float64; got matrices in 16 bits "
                "(load without weights='stored', or use model.astype('float32'))"
            )
        check_cache(cache, LayerCache)
        check_maker(self, cache.layer)
        check_array("dy", dy, cache.shape, cache.dtype)


class Layer(BaseLayer):
    """A map of the last axis: y, cache = forward(x); dx, grads = backward(dy, cache).

    A subclass defines the two widths, ``compute`` and ``compute_backward``.
    """

    def check_input(self, x: Any) -> None:
        """Raise an error unless x has this width and the dtype of the parameters."""
        check_array("x", x, (..., self.in_features), self.dtype)

    def compute(self, x: Array) -> tuple[Array, Any]:
        """Return y and the residuals that the backward needs, without checks."""
        raise NotImplementedError

    def decode_step(self) -> Map:
        """Return ``compute`` as a function that keeps no residuals, as a recurrent layer does."""
        layer = self.copied()
        return lambda x: layer.compute(x)[0]

    def compute_backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        """Return the gradients of x and of the parameters, without checks."""
        raise NotImplementedError

    def __call__(self, x: Array) -> Array:
        """Return the output without a cache."""
        return self.forward(x)[0]

    @own_error_state
    def forward(self, x: Array) -> tuple[Array, LayerCache]:
        """Map x (..., ``in_features``) to y (..., ``out_features``), and return a cache."""
        self.check_input(x)
        y, kept = self.compute(x)
        return y, LayerCache(kept, None, y.shape, y.dtype, self)

    @own_error_state
    def backward(self, dy: Array, cache: LayerCache) -> tuple[Array, Grads]:
        """Return the gradients of x and of the parameters, from dy (..., ``out_features``)."""
        self.check_backward(dy, cache)
        return self.compute_backward(dy, cache.kept)


class Recurrent(BaseLayer, Generic[S]):
    """A map of sequences (B, T, ``in_features``) to (B, T, ``out_features``), with a state.

    This class validates arguments and converts them to one layout. The inner pair of a layer,
    ``compute`` and ``compute_backward``, works in that layout: x and y are (B, T, ·), and a state
    is a tree of arrays whose first axis is the batch.

    Attributes
    ----------
    dropout : float
        Largest dropout probability in the layer.
    batch_first : bool
        Whether x and y are (B, T, ·) rather than (T, B, ·).
    causal : bool
        Whether no output depends on a later input. False if a direction is reversed.
    """

    dropout: float = 0.0
    batch_first: bool = True
    causal: bool = True

    def init_state(self, batch_size: int) -> S:
        """Return the empty state, the state before a sequence: zeros, and −inf for a stabiliser."""
        raise NotImplementedError

    def inner_start(self, batch_size: int) -> Any:
        """Return the empty state in the layout of ``compute``."""
        return self.inner_state(self.init_state(batch_size))

    def inner_state(self, state: Any) -> Any:
        """Return a state in the layout of ``compute``, which is that of the caller by default."""
        return state

    def outer_state(self, state: Any) -> S:
        """Return a state of ``compute`` in the layout of the caller."""
        outer: S = state
        return outer

    def compute(self, x: Array, state: Any, options: RunOptions) -> tuple[Array, Any, Any]:
        """Return y, the state of each row after its last step, and the residuals, without checks.

        In the padding, outputs are arbitrary finite numbers, and their cotangents are 0.
        """
        raise NotImplementedError

    def decode_step(self) -> Step:
        """Return ``compute`` for T = 1 as a function that keeps no residuals, equal up to rounding.

        A layer may define its own, in which all that depends on the parameters alone is computed
        beforehand. It may use a large matrix without a copy, which then must not change.
        """
        layer = self.copied()

        def step(x: Array, state: Any) -> tuple[Array, Any]:
            y, state, _ = layer.compute(x[:, None], state, RunOptions())
            return y[:, 0], state

        return step

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        """Return the gradients of x, of the first state and of the parameters, without checks."""
        raise NotImplementedError

    @own_error_state
    def forward(
        self,
        x: Array,
        state: Any = None,
        *,
        rng: np.random.Generator | None = None,
        lengths: Array | None = None,
    ) -> tuple[Array, S, LayerCache]:
        """Run over a sequence and keep residuals for the backward.

        Parameters
        ----------
        x : np.ndarray
            Inputs, shape (B, T, D) with B ≥ 1 and T ≥ 0; (T, B, D) if not ``batch_first``.
        state : tuple, optional
            State before the first step; the empty state if omitted.
        rng : np.random.Generator, optional
            Generator for dropout. If omitted, nothing is dropped.
        lengths : np.ndarray, optional
            Number of steps of each batch row, integers (B,) from 0 to T; T if omitted. Later steps
            are padding: they change no state, and their outputs and gradients are 0.

        Returns
        -------
        y : np.ndarray
            Outputs, shape (B, T, H); (T, B, H) if not ``batch_first``.
        state : tuple
            State after the last step of each row, to be passed to the next call.
        cache : LayerCache
            Residuals for :meth:`backward`. They share memory with inputs, outputs and parameters:
            do not modify these arrays until ``backward`` has run.
        """
        check_generator("rng", rng)
        x, state, lengths = checked_call(self, x, state, lengths)
        y, state, kept = self._run(x, state, RunOptions(rng, lengths))
        y = self._in_layout(y)
        cache = LayerCache(kept, lengths, y.shape, y.dtype, self)
        return y, self.outer_state(state), cache

    @own_error_state
    def backward(self, dy: Array, cache: LayerCache, dstate: Any = None) -> tuple[Array, S, Grads]:
        """Return the vector-Jacobian product of :meth:`forward`.

        Parameters
        ----------
        dy, dstate : np.ndarray, tuple
            Cotangents of the outputs and of the state after the last step, in their shapes; a
            dstate of None is zero.
        cache : LayerCache
            The cache that :meth:`forward` returned. It is not modified and can be used again.

        Returns
        -------
        dx, dstate0 : np.ndarray, tuple
            Gradients of the inputs and of the state before the first step, in their shapes.
        grads : dict[str, np.ndarray]
            Gradients of the parameters, under the names of ``params``.
        """
        self.check_backward(dy, cache)
        dy = dy if self.batch_first else dy.swapaxes(0, 1)
        dy = without_padding(dy, cache.lengths)
        dstate = self.inner_state(checked_cotangent(self, dstate, len(dy)))
        with one_blas_thread():
            dx, dstate0, grads = self.compute_backward(dy, cache.kept, dstate)
        return self._in_layout(dx), self.outer_state(dstate0), grads

    @own_error_state
    def __call__(
        self, x: Array, state: Any = None, *, lengths: Array | None = None
    ) -> tuple[Array, S]:
        """Return outputs and final state without a cache.

        A causal layer computes 256 steps at a time, and never has the residuals of more in memory.
        """
        x, state, lengths = checked_call(self, x, state, lengths)
        starts = range(0, x.shape[1], EVALUATION_BLOCK)
        if len(starts) < 2 or not self.causal:
            y, state, _ = self._run(x, state, RunOptions(lengths=lengths))
            return self._in_layout(y), self.outer_state(state)
        y = np.empty((*x.shape[:2], self.out_features), self.dtype)
        for start in starts:
            block = slice(start, start + EVALUATION_BLOCK)
            left = None if lengths is None else np.clip(lengths - start, 0, EVALUATION_BLOCK)
            y[:, block], state, _ = self._run(x[:, block], state, RunOptions(lengths=left))
        return self._in_layout(y), self.outer_state(state)

    def _run(self, x: Array, state: Any, options: RunOptions) -> tuple[Array, Any, Any]:
        """Compute the forward with zeros in the padding of x and y."""
        with one_blas_thread():
            y, state, kept = self.compute(without_padding(x, options.lengths), state, options)
        return without_padding(y, options.lengths), state, kept

    @property
    def axes(self) -> tuple[str, str]:
        """Names of the first two axes of x and y."""
        return ("batch", "time") if self.batch_first else ("time", "batch")

    def check_input(self, x: Any) -> None:
        """Raise an error unless x is a batch of sequences in the caller's layout."""
        check_array("x", x, (*self.axes, self.in_features), self.dtype)
        check_batch("x", x, axis=0 if self.batch_first else 1)

    def _in_layout(self, array: Array) -> Array:
        """Return an array (B, T, ·) in the caller's layout."""
        return array if self.batch_first else np.ascontiguousarray(array.swapaxes(0, 1))


def check_fit(name: str, part: Any, in_features: int, out_features: int, dtype: Any) -> None:
    """Raise an error unless a part of another layer has these widths and this dtype."""
    widths, got = (in_features, out_features), (part.in_features, part.out_features)
    others = "the other parts"
    if got != widths:
        expected = f"in_features and out_features {widths}, the widths of {others}"
        raise ShapeError(f"{name}: expected {expected}; got {got}")
    if part.dtype is not None and part.dtype != dtype:
        raise DTypeError(f"{name}: expected {dtype}, the dtype of {others}; got {part.dtype}")


def without_padding(array: Array, lengths: Array | None) -> Array:
    """Return an array (B, T, ·) with zeros after the length of each row."""
    if lengths is None:
        return array
    padded = padding(lengths, array.shape[1])
    return np.where(padded.reshape(*padded.shape, *(1,) * (array.ndim - 2)), 0, array)
