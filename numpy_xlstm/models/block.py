"""What every recurrent block offers its caller: checks at the door, and evaluation in pieces."""

from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np

from numpy_xlstm.models.states import check_finite, check_state_like, own, zeros_like
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_batch,
    check_generator,
    check_positive,
)
from numpy_xlstm.parameters import Composite
from numpy_xlstm.signatures import Signature, check_made_by, signature

State = TypeVar("State")
Cache = TypeVar("Cache")
Grads = dict[str, Array]

EVALUATION_BLOCK = 256
"""Steps for which evaluation holds intermediate results at once."""


class CheckedCache(NamedTuple):
    """What :meth:`Recurrent.backward` needs: what its cotangents must be like, and the cache."""

    made_by: Signature
    y: Array
    after: Any
    """The final state."""
    cache: Any
    """That of ``apply``."""


class Recurrent(Composite, Generic[State, Cache]):
    """A map of sequences (B, T, D) to sequences of the same width, with a state.

    Public ``forward`` and ``backward`` over an unchecked pair, ``apply`` and ``apply_backward``.

    Attributes
    ----------
    width : int
        D, the width of input and output.
    """

    width: int

    def empty_state(self, batch_size: int) -> State:
        """Return the state before a sequence, without checks."""
        raise NotImplementedError

    def apply(
        self, x: Array, state: State, rng: np.random.Generator | None
    ) -> tuple[Array, State, Cache]:
        """Forward, without checks."""
        raise NotImplementedError

    def apply_backward(self, dy: Array, cache: Cache, dstate: State) -> tuple[Array, State, Grads]:
        """Backward, without checks."""
        raise NotImplementedError

    def init_state(self, batch_size: int) -> State:
        """Return the empty state, that before a sequence: zeros, and m = −inf."""
        return self.empty_state(check_positive("batch_size", batch_size))

    def forward(
        self, x: Array, state: State | None = None, *, rng: np.random.Generator | None = None
    ) -> tuple[Array, State, CheckedCache]:
        """Run over a sequence and keep what the backward needs.

        The cache refers to the parameters: change them after the backward.

        Parameters
        ----------
        x : np.ndarray
            Inputs, shape (B, T, D), T ≥ 0.
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
            What :meth:`backward` needs.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError, OptionError
            If an argument is not as described.
        """
        check_generator("rng", rng)
        before = own(self._start(x, state))
        check_finite("state", before)
        y, after, cache = self.apply(x.copy(), before, rng)
        return y, own(after), CheckedCache(signature(self), y, after, cache)

    def backward(
        self, dy: Array, cache: CheckedCache, dstate: State | None = None
    ) -> tuple[Array, State, Grads]:
        """Vector-Jacobian product of :meth:`forward`.

        Parameters
        ----------
        dy : np.ndarray
            Cotangent of the outputs, shape (B, T, D).
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
        ShapeError, DTypeError, NonFiniteError
            If a cotangent is not like what that forward returned, or not finite.
        CacheError
            If ``cache`` is not from a block of this kind with parameters of these shapes.
        """
        check_made_by(cache, self)
        _, y, after, inner = cache
        check_array("dy", dy, y.shape, y.dtype)
        if dstate is None:
            dstate = cast(State, zeros_like(after))
        else:
            check_state_like("dstate", dstate, after, len(dy), self.dtype)
            check_finite("dstate", dstate, cotangent=True)
        return self.apply_backward(dy, inner, dstate)

    def __call__(self, x: Array, state: State | None = None) -> tuple[Array, State]:
        """Evaluate: outputs and final state. Apart from these, memory does not grow with T."""
        now, y = self._start(x, state), np.empty_like(x)
        for start in range(0, x.shape[1], EVALUATION_BLOCK):
            steps = slice(start, start + EVALUATION_BLOCK)
            y[:, steps], now, _ = self.apply(x[:, steps], now, None)
        return y, now if x.shape[1] else own(now)

    def _start(self, x: Any, state: State | None) -> State:
        check_array("x", x, ("batch", "time", self.width), self.dtype)
        check_batch("x", x)
        if state is None:
            return self.empty_state(len(x))
        check_state_like("state", state, self.empty_state(1), len(x), self.dtype)
        return state
