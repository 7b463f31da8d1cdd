"""The two kinds of layers: a map of the last axis, and a map of sequences with a state.

Each has a public pair, which checks, once, and an inner pair that computes. What is made of layers
calls the inner pair of its parts.
"""

from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from numpy_xlstm.door import check_cache, check_like, checked_cotangent
from numpy_xlstm.errors import CacheError
from numpy_xlstm.module import Grads, Module, some
from numpy_xlstm.numerics import Array, check_array, check_batch, check_generator, check_lengths
from numpy_xlstm.numerics.threads import suited_to

EVALUATION_BLOCK = 256
"""Steps for which evaluation holds intermediate results at once."""


class RunOptions(NamedTuple):
    """Options of one run over a batch of sequences.

    Parameters
    ----------
    rng : np.random.Generator, optional
        Source of dropout; without it, nothing is dropped.
    lengths : np.ndarray, optional
        Number of steps of each row, (B,); all have T if omitted. Later steps are padding.
    recompute : bool
        Whether a stack of blocks keeps the inputs of its blocks only, and runs them again in the
        backward.
    """

    rng: np.random.Generator | None = None
    lengths: Array | None = None
    recompute: bool = False


EVALUATION = RunOptions()
"""No dropout, no padding."""


class LayerCache(NamedTuple):
    """What the backward of a layer needs."""

    kept: Any  # what ``compute`` has kept
    lengths: Array | None  # of the rows; None if all are full, or there are no rows
    shape: tuple[int, ...]  # of y, in the layout of the caller
    dtype: np.dtype[Any]  # of y
    made_by: dict[str, Any]  # type, dtype, and shapes of the parameters of the layer, by name

    @classmethod
    def of(
        cls, layer: "Layer | Recurrent", y: Array, kept: Any, lengths: Array | None = None
    ) -> Self:
        """Return the cache of a forward with outputs y."""
        return cls(kept, lengths, y.shape, y.dtype, _made_by(layer))

    def check(self, layer: "Layer | Recurrent") -> None:
        """Raise :class:`CacheError` unless it is that of such a layer."""
        if (here := _made_by(layer)) != (there := self.made_by):
            wanted, got = (
                [f"{name} {a[name]}" for name in a if a[name] != b.get(name)]
                for a, b in ((here, there), (there, here))
            )
            raise CacheError(
                f"cache: expected that of a {type(layer).__name__} with {some(wanted)}; "
                f"got that of one with {some(got)}"
            )


def _made_by(layer: "Layer | Recurrent") -> dict[str, Any]:
    """What a cache depends on, by name."""
    options = {name: getattr(layer, name) for name in layer.cached_options}
    shapes: dict[str, Any] = {name: array.shape for name, array in layer.params.items()}
    return shapes | {"type": type(layer).__name__, "dtype": layer.dtype} | options


class Layer(Module):
    """A map of the last axis: y, cache = forward(x); dx, grads = backward(dy, cache).

    Attributes
    ----------
    Cache : type
        Of what ``compute`` keeps for the backward.
    cached_options : tuple[str, ...]
        Names of the options that it depends on, but does not hold.
    in_features, out_features : int
        Widths of input and output.
    """

    Cache: ClassVar[type]
    cached_options: ClassVar[tuple[str, ...]] = ()
    in_features: int
    out_features: int

    def compute(self, x: Array) -> tuple[Array, Any]:
        """Forward, without checks."""
        raise NotImplementedError

    def compute_backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        """Backward, without checks."""
        raise NotImplementedError

    def __call__(self, x: Array) -> Array:
        """Evaluate: the output alone."""
        return self.forward(x)[0]

    def forward(self, x: Array) -> tuple[Array, LayerCache]:
        """Map x (..., ``in_features``) to y (..., ``out_features``), and return a cache.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If x is not so wide, not of the dtype of the parameters, or not finite.
        """
        check_array("x", x, (*getattr(x, "shape", ())[:-1], self.in_features), self.dtype)
        y, kept = self.compute(x)
        return y, LayerCache.of(self, y, kept)

    def backward(self, dy: Array, cache: LayerCache) -> tuple[Array, Grads]:
        """Gradients of x and of the parameters, from the cotangent dy (..., ``out_features``).

        Raises
        ------
        CacheError
            If ``cache`` is not that of such a layer.
        ShapeError, DTypeError, NonFiniteError
            If ``dy`` is not like the output of that forward, or not finite.
        """
        check_cache(cache, LayerCache)
        check_cache(cache.kept, self.Cache)
        cache.check(self)
        check_array("dy", dy, cache.shape, cache.dtype)
        return self.compute_backward(dy, cache.kept)


class Recurrent(Module):
    """A map of sequences (B, T, ``in_features``) to (B, T, ``out_features``), with a state.

    What is here checks and brings to one layout, in which the inner pair of a layer, ``compute``
    and ``compute_backward``, works: x and y are (B, T, ·), and a state is a tree of arrays of which
    every one has the batch first.

    Attributes
    ----------
    Cache : type
        Of what ``compute`` keeps for the backward.
    cached_options : tuple[str, ...]
        Names of the options that it depends on, but does not hold.
    in_features, out_features : int
        Widths of input and output.
    dropout : float
        The largest probability in the layer that something is dropped in training.
    batch_first : bool
        Whether x and y are (B, T, ·), or (T, B, ·).
    causal : bool
        Whether an output depends on no later input: not so if a direction is reversed.
    """

    Cache: ClassVar[type]
    cached_options: ClassVar[tuple[str, ...]] = ("batch_first",)
    in_features: int
    out_features: int
    dropout: float = 0.0
    batch_first: bool = True
    causal: bool = True

    def init_state(self, batch_size: int) -> Any:
        """Return the empty state, that before a sequence: zeros, and m = −inf."""
        raise NotImplementedError

    def inner_state(self, state: Any) -> Any:
        """Bring a state as ``forward`` takes it to the layout of ``compute``, batch first."""
        return state

    def outer_state(self, state: Any) -> Any:
        """Invert :meth:`inner_state`."""
        return state

    def compute(
        self, x: Array, state: Any, options: RunOptions = EVALUATION
    ) -> tuple[Array, Any, Any]:
        """Forward, without checks; the state after each row is that at its length.

        Where there is padding, x is 0, outputs are any finite numbers, and their cotangents are 0.
        """
        raise NotImplementedError

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        """Backward, without checks."""
        raise NotImplementedError

    def forward(
        self,
        x: Array,
        state: Any = None,
        *,
        rng: np.random.Generator | None = None,
        lengths: Array | None = None,
    ) -> tuple[Array, Any, Any]:
        """Run over a sequence and keep what the backward needs.

        Parameters
        ----------
        x : np.ndarray
            Inputs, shape (B, T, D) with B ≥ 1 and T ≥ 0; (T, B, D) if not ``batch_first``.
        state : tuple, optional
            State before the first step; the empty state if omitted.
        rng : np.random.Generator, optional
            Source of dropout; without it, nothing is dropped.
        lengths : np.ndarray, optional
            Number of steps of each batch row, integers (B,) from 0 to T; T if omitted. The steps
            after them are padding: they change no state, have outputs of 0, and get gradients of 0.

        Returns
        -------
        y : np.ndarray
            Outputs, shape (B, T, H); (T, B, H) if not ``batch_first``.
        state : tuple
            State after the last step of each row, to be passed to the next call.
        cache : LayerCache
            What :meth:`backward` needs. It refers to the inputs, the outputs and the parameters:
            change none of them in place before the backward.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError, OptionError, StateError
            If an argument is not as described.
        """
        return self._checked_forward(x, state, RunOptions(rng, lengths))

    def backward(self, dy: Array, cache: Any, dstate: Any = None) -> tuple[Array, Any, Grads]:
        """Vector-Jacobian product of :meth:`forward`.

        Parameters
        ----------
        dy : np.ndarray
            Cotangent of the outputs, in their shape.
        cache : LayerCache
            From :meth:`forward`. It is not changed, and can be used again.
        dstate : tuple, optional
            Cotangent of the state after the last step; zero if omitted.

        Returns
        -------
        dx : np.ndarray
            Gradient of the inputs, in their shape.
        dstate0 : tuple
            Gradient of the state before the first step.
        grads : dict[str, np.ndarray]
            Gradients of the parameters, under the names of ``params``.

        Raises
        ------
        CacheError
            If ``cache`` is not that of a layer of this kind and size.
        ShapeError, DTypeError, NonFiniteError
            If a cotangent is not like what that forward returned, or not finite.
        """
        check_cache(cache, LayerCache)
        self.check_cache(cache.kept)
        cache.check(self)
        check_array("dy", dy, cache.shape, cache.dtype)
        dy = without_padding(self._batch_major(dy), cache.lengths)
        dstate = self.inner_state(checked_cotangent(self, dstate, len(dy)))
        with self._blas_threads(dy):
            dx, dstate0, grads = self.compute_backward(dy, cache.kept, dstate)
        return self._in_layout(dx), self.outer_state(dstate0), grads

    def __call__(
        self, x: Array, state: Any = None, *, lengths: Array | None = None
    ) -> tuple[Array, Any]:
        """Evaluate: outputs and final state. Memory beside them grows with T only if not causal."""
        x, state, lengths = self._enter(x, state, lengths)
        y = np.empty((*x.shape[:2], self.out_features), self.dtype)
        steps = EVALUATION_BLOCK if self.causal else max(1, x.shape[1])
        for start in range(0, max(1, x.shape[1]), steps):
            block = slice(start, start + steps)
            now = x[:, block]
            left = None if lengths is None else np.clip(lengths - start, 0, now.shape[1])
            with self._blas_threads(now):
                out, state, _ = self.compute(now, state, RunOptions(lengths=left))
                y[:, block] = without_padding(out, left)
        return self._in_layout(y), self.outer_state(state)

    def check_cache(self, cache: Any) -> None:
        """Raise :class:`CacheError` unless ``compute`` of such a layer has kept this."""
        check_cache(cache, self.Cache)

    def check_input(self, x: Any) -> None:
        """Raise an error unless x is a batch of sequences, in the layout of the caller."""
        check_array("x", x, (*self._order, self.in_features), self.dtype)
        check_batch("x", x, axis=self._order.index("batch"))

    def check_state(self, state: Any) -> None:
        """Raise :class:`StateError` for a state, in the layout of ``compute``, of no sequence."""

    def _checked_forward(
        self, x: Array, state: Any, options: RunOptions
    ) -> tuple[Array, Any, LayerCache]:
        """Check the arguments and run."""
        check_generator("rng", options.rng)
        x, state, lengths = self._enter(x, state, options.lengths)
        with self._blas_threads(x):
            y, state, kept = self.compute(x, state, options._replace(lengths=lengths))
        y = self._in_layout(without_padding(y, lengths))
        return y, self.outer_state(state), LayerCache.of(self, y, kept, lengths)

    def _enter(self, x: Array, state: Any, lengths: Any) -> tuple[Array, Any, Array | None]:
        """Check the arguments; return them in the layout of ``compute``."""
        self.check_input(x)
        x = self._batch_major(x)
        B, T = x.shape[:2]
        like, hint = self.init_state(B), f"x is read as ({', '.join(self._order)}, …)"
        state = like if state is None else check_like("state", state, like, hint)
        state = self.inner_state(state)
        self.check_state(state)
        if lengths is not None:
            lengths = check_lengths(lengths, B, T)
        return without_padding(x, lengths), state, lengths

    def _blas_threads(self, x: Array) -> AbstractContextManager[None]:
        """Return a context in which BLAS starts threads only if the products are worth it."""
        return suited_to(x.shape[0] * x.shape[1] * self._weights)

    @cached_property
    def _weights(self) -> int:
        """Number of parameters: each is multiplied once a step."""
        return self.num_parameters

    @property
    def _order(self) -> tuple[str, str]:
        """The first axes of x and y."""
        return ("batch", "time") if self.batch_first else ("time", "batch")

    def _batch_major(self, array: Array) -> Array:
        """View of an array in the caller's layout as (B, T, ·)."""
        return array if self.batch_first else array.swapaxes(0, 1)

    def _in_layout(self, array: Array) -> Array:
        """(B, T, ·) in the caller's layout."""
        return array if self.batch_first else np.ascontiguousarray(array.swapaxes(0, 1))


def without_padding(array: Array, lengths: Array | None) -> Array:
    """Return (B, T, ·) with 0 at the steps after the length of each row."""
    if lengths is None:
        return array
    padding = np.arange(array.shape[1]) >= lengths[:, None]
    return np.where(padding.reshape(*padding.shape, *(1,) * (array.ndim - 2)), 0, array)
