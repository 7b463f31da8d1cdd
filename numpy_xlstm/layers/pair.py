"""What a pure pair offers its caller: checks at the door, then the bare mathematics."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from numpy_xlstm.numerics import Array, check_array
from numpy_xlstm.signatures import Signed, opened_by_function

Cache = TypeVar("Cache")


def checked_forward(
    name: str, forward: Callable[[Array], tuple[Array, Cache]], x: Any
) -> tuple[Array, Signed[Cache]]:
    """Check x, of any shape, run a ``forward`` that maps each number, and sign its cache.

    Raises
    ------
    DTypeError, NonFiniteError
        If ``x`` is not an array of finite floating-point numbers.
    """
    x = _as_array(x)
    check_array("x", x, getattr(x, "shape", ()))
    y, cache = forward(np.atleast_1d(x))
    y = y.reshape(x.shape)
    return y, Signed.by_function(name, y, cache)


def checked_backward(
    name: str, backward: Callable[[Array, Cache], Array], dy: Any, cache: Signed[Cache]
) -> Array:
    """Check that the cache is that of ``name``, and dy like its output; then run ``backward``.

    Raises
    ------
    CacheError
        If ``cache`` is not what that function has returned.
    ShapeError, DTypeError, NonFiniteError
        If ``dy`` is not like the output of that forward, or not finite.
    """
    dy = _as_array(dy)
    inner = opened_by_function(cache, name, dy)
    return backward(np.atleast_1d(dy), inner).reshape(dy.shape)


def _as_array(x: Any) -> Any:
    """A number of NumPy, which is what arithmetic makes of an array of shape (), as an array."""
    return np.asarray(x) if isinstance(x, np.generic) else x
