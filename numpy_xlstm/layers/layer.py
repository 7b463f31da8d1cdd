"""What every stateless layer offers its caller: checks at the door, then the bare mathematics."""

from typing import Any, Generic, TypeVar

import numpy as np

from numpy_xlstm.layers.shapes import leading_shape
from numpy_xlstm.numerics import Array, check_array
from numpy_xlstm.parameters import Parameterised
from numpy_xlstm.signatures import Signed, opened

Cache = TypeVar("Cache")
Grads = dict[str, Array]


class Layer(Parameterised, Generic[Cache]):
    """A map of the last axis: public ``forward`` and ``backward`` over an unchecked pair.

    A block checks its own input once and then calls ``apply`` and ``apply_backward`` of its parts.

    Attributes
    ----------
    in_features, out_features : int
        Widths of input and output.
    """

    in_features: int
    out_features: int

    def apply(self, x: Array) -> tuple[Array, Cache]:
        """Forward, without checks."""
        raise NotImplementedError

    def apply_backward(self, dy: Array, cache: Cache) -> tuple[Array, Grads]:
        """Backward, without checks."""
        raise NotImplementedError

    def __call__(self, x: Array) -> Array:
        """Evaluate: the output alone."""
        return self.forward(x)[0]

    def forward(self, x: Array) -> tuple[Array, Signed[Cache]]:
        """Map x (..., ``in_features``) to y (..., ``out_features``).

        The cache refers to x and to the parameters: change them after the backward.

        Raises
        ------
        ShapeError
            If the last axis of ``x`` is not ``in_features`` wide.
        DTypeError
            If the dtype of ``x`` is not that of the parameters.
        NonFiniteError
            If ``x`` holds NaN or infinity.
        """
        check_array("x", x, (*leading_shape(x), self.in_features), self.dtype_or_none)
        y, cache = self.apply(x)
        return y, Signed.by(self, y, cache)

    def backward(self, dy: Array, cache: Signed[Cache]) -> tuple[Array, Grads]:
        """Gradients of x and of the parameters, from the cotangent dy (..., ``out_features``).

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If ``dy`` is not like the output of that forward, or not finite.
        CacheError
            If ``cache`` is not from a layer of this kind, with these sizes and options.
        """
        return self.apply_backward(dy, opened(cache, self, dy))

    @property
    def dtype_or_none(self) -> np.dtype[Any] | None:
        """The dtype of the parameters; None where there are none."""
        return self.dtype if self.params else None


def rows(x: Array) -> Array:
    """All leading axes as one: one matrix product is faster than one per batch row."""
    return x.reshape(-1, x.shape[-1])
