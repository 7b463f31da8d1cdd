"""What every stateless layer offers its caller: checks at the door, then the bare mathematics."""

from typing import Any, Generic, TypeVar

import numpy as np

from numpy_xlstm.errors import CacheError
from numpy_xlstm.layers.shapes import leading_shape
from numpy_xlstm.numerics import Array, cache_of, check_array
from numpy_xlstm.parameters import Parameterised

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

    def leading_shape_of(self, cache: Cache) -> tuple[int, ...]:
        """Shape, but for the last axis, of the input of the forward that made ``cache``."""
        raise NotImplementedError

    def __call__(self, x: Array) -> Array:
        """Evaluate: the output alone."""
        return self.forward(x)[0]

    def forward(self, x: Array) -> tuple[Array, Cache]:
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
        return self.apply(x)

    def backward(self, dy: Array, cache: Cache) -> tuple[Array, Grads]:
        """Gradients of x and of the parameters, from the cotangent dy (..., ``out_features``).

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If ``dy`` is not like the output of that forward, or not finite.
        CacheError
            If ``cache`` is not what a forward of a layer of this kind and size has returned.
        """
        with cache_of(self, cache):
            shape = (*self.leading_shape_of(cache), self.out_features)
        check_array("dy", dy, shape, self.dtype_or_none)
        dx, grads = self.apply_backward(dy, cache)
        self._check_fit(grads)
        return dx, grads

    def _check_fit(self, grads: Grads) -> None:
        """Raise :class:`CacheError` if the cache was that of a layer of another size."""
        for name, array in self.params.items():
            if grads[name].shape != array.shape:
                raise CacheError(
                    f"cache: expected that of a {type(self).__name__} whose {name} is "
                    f"{array.shape}; got one of {grads[name].shape}"
                )

    @property
    def dtype_or_none(self) -> np.dtype[Any] | None:
        """The dtype of the parameters; None where there are none."""
        return self.dtype if self.params else None


def rows(x: Array) -> Array:
    """All leading axes as one: one matrix product is faster than one per batch row."""
    return x.reshape(-1, x.shape[-1])
