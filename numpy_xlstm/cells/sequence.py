"""What every sequence layer offers its caller: checked input, either layout, evaluation in blocks.

The recurrences themselves are time-major. Here is the one place where a layer meets the
caller's layout, and where evaluation is cut into blocks so that it needs no more memory for a
long sequence than for a short one.
"""

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from numpy_xlstm.cells.padding import check_lengths
from numpy_xlstm.numerics import Array, check_array, check_batch
from numpy_xlstm.signatures import Signature, check_made_by


class SignedCache(Protocol):
    """A cache that knows where it is from."""

    @property
    def made_by(self) -> Signature:
        """Kind, sizes and options of the layer."""


State = TypeVar("State")
Cache = TypeVar("Cache", bound=SignedCache)
Grads = dict[str, Array]

EVALUATION_BLOCK = 128
"""Steps for which evaluation holds intermediate results at once."""


class SequenceLayer(Generic[State, Cache]):
    """Public forward, backward and evaluation over a time-major ``_forward``, ``_backward``.

    Attributes
    ----------
    batch_first : bool
        Whether arrays are (batch, time, features), or (time, batch, features) as is PyTorch's
        default.
    """

    batch_first: bool
    input_size: int
    hidden_size: int
    dtype: Any

    def _forward(self, x: Array, state: Any, lengths: Array | None) -> tuple[Array, State, Cache]:
        raise NotImplementedError

    def _backward(self, dy: Array, cache: Cache, dstate: Any) -> tuple[Array, State, Grads]:
        raise NotImplementedError

    def _shape_of(self, cache: Cache) -> tuple[int, int]:
        """T and B of the call that made the cache."""
        raise NotImplementedError

    def forward(
        self, x: Array, state: Sequence[Any] | None = None, *, lengths: Array | None = None
    ) -> tuple[Array, State, Cache]:
        """Run over a sequence and keep what the backward needs.

        Parameters
        ----------
        x : np.ndarray
            Inputs, shape (B, T, D) with B ≥ 1 and T ≥ 0; (T, B, D) if not ``batch_first``.
        state : tuple of np.ndarray, optional
            State before the first step; the empty state if omitted.
        lengths : np.ndarray, optional
            Number of steps of each batch row, integers (B,) from 0 to T; T if omitted. The steps
            after them are padding: they change no state, have outputs of 0, and get gradients of 0.

        Returns
        -------
        y : np.ndarray
            Outputs h_1 … h_T, shape (B, T, H); (T, B, H) if not ``batch_first``.
        state : NamedTuple
            State after the last step of each row, to be passed to the next call.
        cache
            What :meth:`backward` needs. It is independent of what happens to ``x``, to ``state``
            and to the parameters afterwards.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError, OptionError
            If an argument is not as described.
        """
        x = self._time_major(self._check_x(x))
        y, after, cache = self._forward(x, state, self._check_lengths(lengths, x))
        return np.ascontiguousarray(self._time_major(y)), after, cache

    def backward(
        self, dy: Array, cache: Cache, dstate: Sequence[Any] | None = None
    ) -> tuple[Array, State, Grads]:
        """Vector-Jacobian product of :meth:`forward`.

        Parameters
        ----------
        dy : np.ndarray
            Cotangent of the outputs, in their shape.
        cache
            From :meth:`forward`. It is not changed, and can be used again.
        dstate : tuple of np.ndarray, optional
            Cotangent of the state after the last step; zero if omitted.

        Returns
        -------
        dx : np.ndarray
            Gradient of the inputs, in their shape.
        dstate0 : NamedTuple
            Gradient of the state before the first step.
        grads : dict[str, np.ndarray]
            Gradients of the parameters, under the names of ``params``.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If a cotangent is not like what that forward returned, or not finite.
        CacheError
            If ``cache`` is not from a layer of this kind, with these sizes and options.
        """
        check_made_by(cache, self)
        T, B = self._shape_of(cache)
        shape = (B, T) if self.batch_first else (T, B)
        check_array("dy", dy, (*shape, self.hidden_size), self.dtype)
        dx, dstate0, grads = self._backward(self._time_major(dy), cache, dstate)
        return np.ascontiguousarray(self._time_major(dx)), dstate0, grads

    def __call__(
        self, x: Array, state: Any = None, *, lengths: Array | None = None
    ) -> tuple[Array, State]:
        """Evaluate: :meth:`forward` without a cache, block by block.

        Apart from the outputs, the memory used does not depend on T. The arguments are those of
        :meth:`forward`.

        Returns
        -------
        y : np.ndarray
            Outputs.
        state : NamedTuple
            State after the last step.
        """
        x = self._time_major(self._check_x(x))
        lengths = self._check_lengths(lengths, x)
        T, B, _ = x.shape
        y = np.empty((T, B, self.hidden_size), self.dtype)
        for start in range(0, max(T, 1), EVALUATION_BLOCK):
            block = slice(start, start + EVALUATION_BLOCK)
            left = None if lengths is None else np.clip(lengths - start, 0, len(x[block]))
            y[block], state, _ = self._forward(x[block], state, left)
        return np.ascontiguousarray(self._time_major(y)), state

    def _check_x(self, x: Array) -> Array:
        order = ("batch", "time") if self.batch_first else ("time", "batch")
        check_array("x", x, (*order, self.input_size), self.dtype)
        check_batch("x", x, axis=order.index("batch"))
        return x

    def _check_lengths(self, lengths: Array | None, x: Array) -> Array | None:
        """Check the lengths for a time-major x."""
        T, B, _ = x.shape
        return None if lengths is None else check_lengths(lengths, B, T)

    def _blank(self, T: int, B: int, width: int) -> Array:
        """Make a time-major array that is contiguous in the caller's layout."""
        shape = (B, T, width) if self.batch_first else (T, B, width)
        return self._time_major(np.empty(shape, self.dtype))

    def _time_major(self, array: Array) -> Array:
        """Swap batch and time where the caller's layout is batch-first: its own inverse."""
        return array.swapaxes(0, 1) if self.batch_first else array
