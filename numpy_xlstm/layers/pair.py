"""What a pure pair of functions of each number checks before it computes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from numpy_xlstm.door import check_cache
from numpy_xlstm.numerics import Array, check_array


def checked_forward(forward: Callable[[Array], tuple[Array, Any]], x: Any) -> tuple[Array, Any]:
    """Check x, of any shape, and run a ``forward`` that maps each number.

    Raises
    ------
    DTypeError, NonFiniteError
        If ``x`` is not an array of finite floating-point numbers.
    """
    x = _as_array(x)
    y, cache = forward(np.atleast_1d(check_array("x", x, getattr(x, "shape", ()))))
    return y.reshape(x.shape), cache


def checked_backward(
    kind: type, backward: Callable[[Array, Any], Array], dy: Any, cache: Any
) -> Array:
    """Check that the cache is of this kind, and dy like its first field; then run ``backward``.

    Raises
    ------
    CacheError
        If ``cache`` is of another kind.
    ShapeError, DTypeError, NonFiniteError
        If ``dy`` is not like the output of that forward, or not finite.
    """
    check_cache(cache, kind)
    dy, shape = _as_array(dy), cache[0].shape
    if shape == (1,) and np.ndim(dy) == 0:  # x had no axis
        shape = ()
    check_array("dy", dy, shape, cache[0].dtype)
    return backward(np.atleast_1d(dy), cache).reshape(dy.shape)


def _as_array(x: Any) -> Any:
    """A number of NumPy, which is what arithmetic makes of an array of shape (), as an array."""
    return np.asarray(x) if isinstance(x, np.generic) else x
