"""The two kinds of layers: a map of the last axis, and a map of sequences with a state.

Each has a public pair, which checks, once, and an inner pair that computes. What is made of layers
calls the inner pair of its parts.
"""

from typing import Any, ClassVar

import numpy as np

from numpy_xlstm.door import check_cache, check_output_cotangent, checked_cotangent, checked_state
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, check_array, check_batch, check_generator

EVALUATION_BLOCK = 256
"""Steps for which evaluation holds intermediate results at once."""


class Layer(Module):
    """A map of the last axis: y, cache = forward(x); dx, grads = backward(dy, cache).

    Attributes
    ----------
    in_features, out_features : int
        Widths of input and output.
    """

    Cache: ClassVar[type]
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

    def forward(self, x: Array) -> tuple[Array, Any]:
        """Map x (..., ``in_features``) to y (..., ``out_features``), and return a cache.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If x is not so wide, not of the dtype of the parameters, or not finite.
        """
        check_array("x", x, (*getattr(x, "shape", ())[:-1], self.in_features), self.dtype)
        return self.compute(x)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        """Gradients of x and of the parameters, from the cotangent dy (..., ``out_features``).

        Raises
        ------
        CacheError
            If ``cache`` is not that of a layer of this kind.
        ShapeError, DTypeError, NonFiniteError
            If ``dy`` is not like the output of that forward, or not finite.
        """
        check_cache(cache, self.Cache)
        check_output_cotangent(self, dy, cache)
        return self.compute_backward(dy, cache)


class Recurrent(Module):
    """A map of sequences (B, T, ``in_features``) to (B, T, ``out_features``), with a state.

    Attributes
    ----------
    in_features, out_features : int
        Widths of input and output.
    dropout : float
        The largest probability in the layer that something is dropped in training.
    """

    Cache: ClassVar[type]
    in_features: int
    out_features: int
    dropout: float = 0.0

    def init_state(self, batch_size: int) -> Any:
        """Return the empty state, that before a sequence: zeros, and m = −inf."""
        raise NotImplementedError

    def compute(
        self, x: Array, state: Any, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any, Any]:
        """Forward, without checks."""
        raise NotImplementedError

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        """Backward, without checks."""
        raise NotImplementedError

    def forward(
        self, x: Array, state: Any = None, *, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any, Any]:
        """Run over a sequence and keep what the backward needs.

        Parameters
        ----------
        x : np.ndarray
            Inputs, shape (B, T, D), B ≥ 1 and T ≥ 0.
        state : tuple, optional
            State before the first step; the empty state if omitted.
        rng : np.random.Generator, optional
            Source of dropout; without it, nothing is dropped.

        Returns
        -------
        y : np.ndarray
            Outputs, shape (B, T, D).
        state : tuple
            State after the last step, to be passed to the next call.
        cache
            What :meth:`backward` needs. It refers to the inputs, the outputs and the parameters:
            change none of them in place before the backward.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError, OptionError
            If an argument is not as described.
        """
        check_generator("rng", rng)
        return self.compute(x, self._enter(x, state), rng)

    def backward(self, dy: Array, cache: Any, dstate: Any = None) -> tuple[Array, Any, Grads]:
        """Vector-Jacobian product of :meth:`forward`.

        Parameters
        ----------
        dy : np.ndarray
            Cotangent of the outputs, in their shape.
        cache
            From :meth:`forward`. It is not changed, and can be used again.
        dstate : tuple, optional
            Cotangent of the state after the last step; zero if omitted.

        Returns
        -------
        dx : np.ndarray
            Gradient of the inputs.
        dstate0 : tuple
            Gradient of the state before the first step.
        grads : dict[str, np.ndarray]
            Gradients of the parameters, under the names of ``params``.

        Raises
        ------
        CacheError
            If ``cache`` is not that of a layer of this kind.
        ShapeError, DTypeError, NonFiniteError
            If a cotangent is not like what that forward returned, or not finite.
        """
        self.check_cache(cache)
        check_output_cotangent(self, dy, cache)
        return self.compute_backward(dy, cache, checked_cotangent(self, dstate, len(dy)))

    def __call__(self, x: Array, state: Any = None) -> tuple[Array, Any]:
        """Evaluate: outputs and final state. Apart from these, memory does not grow with T."""
        state = self._enter(x, state)
        y = np.empty((*x.shape[:2], self.out_features), self.dtype)
        for start in range(0, max(1, x.shape[1]), EVALUATION_BLOCK):
            block = slice(start, start + EVALUATION_BLOCK)
            y[:, block], state, _ = self.compute(x[:, block], state)
        return y, state

    def check_cache(self, cache: Any) -> None:
        """Raise :class:`CacheError` unless a layer of this kind has made the cache."""
        check_cache(cache, self.Cache)

    def check_state(self, state: Any) -> None:
        """Raise :class:`StateError` for a state that no sequence leads to."""

    def _enter(self, x: Array, state: Any) -> Any:
        """Check x, and return the state before the first step."""
        check_array("x", x, ("batch", "time", self.in_features), self.dtype)
        check_batch("x", x)
        state = checked_state(self, state, len(x))
        self.check_state(state)
        return state
