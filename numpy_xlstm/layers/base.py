"""The two kinds of layers: maps of the last axis, and maps of sequences with a state.

Each has a public pair, ``forward`` and ``backward``, which validates its arguments, and an inner
pair, ``compute`` and ``compute_backward``, which does not. Stacks, blocks and models call the inner
pair of their parts, so that arguments are checked once.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple

import numpy as np

from numpy_xlstm.errors import DTypeError, ShapeError
from numpy_xlstm.kernels.parts import padding
from numpy_xlstm.layers.cache import LayerCache
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, check_array, check_batch, check_generator, check_lengths
from numpy_xlstm.numerics.threads import one_blas_thread
from numpy_xlstm.trees import zeros_like
from numpy_xlstm.validation import check_cache, check_like

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # comes with the type checker; not needed to run

    S = TypeVar("S", default=Any)
else:
    from typing import TypeVar

    S = TypeVar("S")
"""Type of a state; a type checker takes Any where it is not given."""

EVALUATION_BLOCK = 256
"""Number of steps that evaluation computes at a time, which bounds its memory."""


class RunOptions(NamedTuple):
    """Options of one run over a batch of sequences.

    Parameters
    ----------
    rng : np.random.Generator, optional
        Generator for dropout. If omitted, nothing is dropped.
    lengths : np.ndarray, optional
        Number of steps of each row, (B,); T for all rows if omitted. Later steps are padding.
    recompute : bool
        Whether a stack of blocks keeps only the inputs of its blocks, and computes their residuals
        again in the backward.
    """

    rng: np.random.Generator | None = None
    lengths: Array | None = None
    recompute: bool = False

    def of(self, rows: slice) -> "RunOptions":
        """Return the options for some rows of the batch."""
        return self if self.lengths is None else self._replace(lengths=self.lengths[rows])


EVALUATION = RunOptions()
"""Options without dropout and without padding."""


class Layer(Module):
    """A map of the last axis: y, cache = forward(x); dx, grads = backward(dy, cache).

    Attributes
    ----------
    Cache : type
        Type of the residuals that ``compute`` returns.
    cached_options : tuple[str, ...]
        Names of options that the residuals depend on but do not contain.
    in_features, out_features : int
        Widths of the input and of the output.
    """

    Cache: ClassVar[type]
    cached_options: ClassVar[tuple[str, ...]] = ()
    in_features: int
    out_features: int

    def compute(self, x: Array) -> tuple[Array, Any]:
        """Compute the forward without checks."""
        raise NotImplementedError

    def compute_backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        """Compute the backward without checks."""
        raise NotImplementedError

    def __call__(self, x: Array) -> Array:
        """Return the output without a cache."""
        return self.forward(x)[0]

    def forward(self, x: Array) -> tuple[Array, LayerCache]:
        """Map x (..., ``in_features``) to y (..., ``out_features``), and return a cache.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If x has another width, or another dtype than the parameters, or is not finite.
        """
        check_array("x", x, (*getattr(x, "shape", ())[:-1], self.in_features), self.dtype)
        y, kept = self.compute(x)
        return y, LayerCache.of(self, y, kept)

    def backward(self, dy: Array, cache: LayerCache) -> tuple[Array, Grads]:
        """Return the gradients of x and of the parameters, from dy (..., ``out_features``).

        Raises
        ------
        CacheError
            If ``cache`` was not made by a layer of this configuration.
        ShapeError, DTypeError, NonFiniteError
            If ``dy`` has another shape or dtype than the output, or is not finite.
        """
        check_cache(cache, LayerCache)
        check_cache(cache.kept, self.Cache)
        cache.check(self)
        check_array("dy", dy, cache.shape, cache.dtype)
        return self.compute_backward(dy, cache.kept)


class Recurrent(Module, Generic[S]):
    """A map of sequences (B, T, ``in_features``) to (B, T, ``out_features``), with a state.

    This class validates arguments and converts them to one layout. The inner pair of a layer,
    ``compute`` and ``compute_backward``, works in that layout: x and y are (B, T, ·), and a state
    is a tree of arrays whose first axis is the batch.

    Attributes
    ----------
    Cache : type
        Type of the residuals that ``compute`` returns.
    cached_options : tuple[str, ...]
        Names of options that the residuals depend on but do not contain.
    in_features, out_features : int
        Widths of the input and of the output.
    dropout : float
        Largest dropout probability in the layer.
    batch_first : bool
        Whether x and y are (B, T, ·) rather than (T, B, ·).
    causal : bool
        Whether no output depends on a later input. False if a direction is reversed.
    """

    Cache: ClassVar[type]
    cached_options: ClassVar[tuple[str, ...]] = ("batch_first",)
    in_features: int
    out_features: int
    dropout: float = 0.0
    batch_first: bool = True
    causal: bool = True

    def init_state(self, batch_size: int) -> S:
        """Return the empty state, the state before a sequence: zeros, and m = −inf."""
        raise NotImplementedError

    def inner_start(self, batch_size: int) -> Any:
        """Return the empty state in the layout of ``compute``."""
        return self.inner_state(self.init_state(batch_size))

    def inner_state(self, state: Any) -> Any:
        """Convert a state from the layout of ``forward`` to that of ``compute``, batch first."""
        return state

    def outer_state(self, state: Any) -> S:
        """Invert :meth:`inner_state`."""
        outer: S = state
        return outer

    def compute(
        self, x: Array, state: Any, options: RunOptions = EVALUATION
    ) -> tuple[Array, Any, Any]:
        """Compute the forward without checks.

        The returned state of each row is the state after its last step.

        In the padding, outputs are arbitrary finite numbers, and their cotangents are 0.
        """
        raise NotImplementedError

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        """Compute the backward without checks."""
        raise NotImplementedError

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

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError, OptionError, StateError
            If an argument is not as described.
        """
        return self._checked_forward(x, state, RunOptions(rng, lengths))

    def backward(self, dy: Array, cache: LayerCache, dstate: Any = None) -> tuple[Array, S, Grads]:
        """Return the vector-Jacobian product of :meth:`forward`.

        Parameters
        ----------
        dy : np.ndarray
            Cotangent of the outputs, in their shape.
        cache : LayerCache
            The cache that :meth:`forward` returned. It is not modified and can be used again.
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
            If ``cache`` was not made by a layer of this configuration.
        ShapeError, DTypeError, NonFiniteError
            If a cotangent has another shape or dtype than the result of that forward, or is not
            finite.
        """
        check_cache(cache, LayerCache)
        self.check_cache(cache.kept)
        cache.check(self)
        check_array("dy", dy, cache.shape, cache.dtype)
        dy = without_padding(self._batch_major(dy), cache.lengths)
        if dstate is None:
            dstate = zeros_like(self.inner_start(len(dy)))
        else:
            dstate = self.inner_state(check_like("dstate", dstate, self.init_state(len(dy))))
        with one_blas_thread():
            dx, dstate0, grads = self.compute_backward(dy, cache.kept, dstate)
        return self._in_layout(dx), self.outer_state(dstate0), grads

    def __call__(
        self, x: Array, state: Any = None, *, lengths: Array | None = None
    ) -> tuple[Array, S]:
        """Return outputs and final state without a cache.

        For a causal layer, working memory does not grow with T.
        """
        x, state, lengths = self._enter(x, state, lengths)
        y = np.empty((*x.shape[:2], self.out_features), self.dtype)
        steps = EVALUATION_BLOCK if self.causal else max(1, x.shape[1])
        for start in range(0, max(1, x.shape[1]), steps):
            block = slice(start, start + steps)
            now = x[:, block]
            left = None if lengths is None else np.clip(lengths - start, 0, now.shape[1])
            with one_blas_thread():
                out, state, _ = self.compute(now, state, RunOptions(lengths=left))
                y[:, block] = without_padding(out, left)
        return self._in_layout(y), self.outer_state(state)

    def check_cache(self, cache: Any) -> None:
        """Raise :class:`CacheError` unless ``compute`` of this kind of layer made the residuals."""
        check_cache(cache, self.Cache)

    def check_input(self, x: Any) -> None:
        """Raise an error unless x is a batch of sequences in the caller's layout."""
        check_array("x", x, (*self._order, self.in_features), self.dtype, hint=self._hint())
        check_batch("x", x, axis=self._order.index("batch"))

    def check_state(self, state: Any) -> None:
        """Raise :class:`StateError` for an unreachable state (in the layout of ``compute``)."""

    def _checked_forward(
        self, x: Array, state: Any, options: RunOptions
    ) -> tuple[Array, S, LayerCache]:
        """Check the arguments and run."""
        check_generator("rng", options.rng)
        x, state, lengths = self._enter(x, state, options.lengths)
        with one_blas_thread():
            y, state, kept = self.compute(x, state, options._replace(lengths=lengths))
        y = self._in_layout(without_padding(y, lengths))
        return y, self.outer_state(state), LayerCache.of(self, y, kept, lengths)

    def _enter(self, x: Array, state: Any, lengths: Any) -> tuple[Array, Any, Array | None]:
        """Check the arguments and return them in the layout of ``compute``."""
        self.check_input(x)
        x = self._batch_major(x)
        B, T = x.shape[:2]
        hint = self._hint(f"x is read as ({', '.join(self._order)}, …)")
        if state is None:
            state = self.inner_start(B)
        else:
            state = self.inner_state(check_like("state", state, self.init_state(B), hint))
            self.check_state(state)
        if lengths is not None:
            lengths = check_lengths(lengths, B, T, hint)
        return without_padding(x, lengths), state, lengths

    @property
    def _order(self) -> tuple[str, str]:
        """Names of the first two axes of x and y."""
        return ("batch", "time") if self.batch_first else ("time", "batch")

    def _hint(self, *parts: str) -> str:
        """Join the parts of a hint about a wrong shape, and add the default of ``batch_first``."""
        default = "batch_first=True is the default here; for time-first x pass batch_first=False"
        has_default = self.batch_first and "batch_first" in vars(self)  # else it is no option
        return "; ".join([*parts, default] if has_default else parts)

    def _batch_major(self, array: Array) -> Array:
        """Return a view (B, T, ·) of an array in the caller's layout."""
        return array if self.batch_first else array.swapaxes(0, 1)

    def _in_layout(self, array: Array) -> Array:
        """Return an array (B, T, ·) in the caller's layout."""
        return array if self.batch_first else np.ascontiguousarray(array.swapaxes(0, 1))


def check_fit(name: str, part: Any, in_features: int, out_features: int, dtype: Any) -> None:
    """Raise an error unless a part of another layer has these widths and this dtype."""
    widths, got = (in_features, out_features), (part.in_features, part.out_features)
    if got != widths:
        expected = f"in_features and out_features {widths}, the widths of the other parts"
        raise ShapeError(f"{name}: expected {expected}; got {got}")
    if part.dtype is not None and part.dtype != dtype:
        raise DTypeError(
            f"{name}: expected {dtype}, the dtype of the other parts; got {part.dtype}"
        )


def without_padding(array: Array, lengths: Array | None) -> Array:
    """Return an array (B, T, ·) with zeros after the length of each row."""
    if lengths is None:
        return array
    padded = padding(lengths, array.shape[1])
    return np.where(padded.reshape(*padded.shape, *(1,) * (array.ndim - 2)), 0, array)
