"""Activation functions between layers, as pure pairs of forward and backward.

Derived in ``docs/derivations/blocks.md``, whose tags are cited here. The slope is formed in the
backward: a forward alone, as in generation, goes without. What layers and models call, by the names
in :data:`ACTIVATIONS`, has no checks; the public pairs are the same functions behind them.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import DTypeError
from numpy_xlstm.layers.pair import checked_backward, checked_forward
from numpy_xlstm.numerics import Array, sigmoid
from numpy_xlstm.numerics.activations import at_least, exp_minus, lowest, maximum, minimum
from numpy_xlstm.signatures import Signed

Cache = tuple[Array, ...]


class Activation(NamedTuple):
    """A function of each number, and its vector-Jacobian product, both without checks.

    The cache may hold x and y themselves: do not change them before the backward.
    """

    forward: Callable[[Array], tuple[Array, Cache]]
    """x to y and what the backward needs."""
    backward: Callable[[Array, Cache], Array]
    """Cotangent of y, and the cache, to the gradient of x."""


def silu(x: Array) -> tuple[Array, Signed[Cache]]:
    """Return x σ(x), also known as swish, and what :func:`silu_backward` needs.

    That holds y itself: do not change it before the backward.

    Raises
    ------
    DTypeError, NonFiniteError
        If ``x`` is not an array of finite floating-point numbers.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = silu(np.array([0.0, 1.0]))
    >>> y.round(4), silu_backward(np.ones(2), cache).round(4)
    (array([0.    , 0.7311]), array([0.5   , 0.9277]))
    """
    return checked_forward("silu", _silu, x)


def silu_backward(dy: Array, cache: Signed[Cache]) -> Array:
    """Gradient of x from that of x σ(x).

    Raises
    ------
    CacheError
        If ``cache`` is not what :func:`silu` has returned.
    ShapeError, DTypeError, NonFiniteError
        If ``dy`` is not like y, or not finite.
    """
    return checked_backward("silu", _silu_backward, dy, cache)


def _silu(x: Array) -> tuple[Array, Cache]:
    """Return x σ(x)  [silu.1]."""
    near = at_least(x, lowest(x.dtype))  # σ stays above 0, and must not meet −1e38
    s = np.exp(-near)
    s += 1
    np.reciprocal(s, out=s)
    y = near * s
    return y, (y, s)


def _silu_backward(dy: Array, cache: Cache) -> Array:
    """Gradient of x from that of x σ(x)  [silu.2]."""
    y, s = cache
    dx = 1 - s
    dx *= y
    dx += s
    dx *= dy
    return dx


def gelu(x: Array) -> tuple[Array, Signed[Cache]]:
    """Return x Φ(x), Φ the normal distribution, and what :func:`gelu_backward` needs.

    That holds x itself: do not change it before the backward.

    Raises
    ------
    DTypeError, NonFiniteError
        If ``x`` is not an array of finite floating-point numbers, or of extended precision, for
        which SciPy has no Φ; :func:`gelu_tanh` takes it.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = gelu(np.array([0.0, 1.0]))
    >>> y.round(4), gelu_backward(np.ones(2), cache).round(4)
    (array([0.    , 0.8413]), array([0.5   , 1.0833]))
    """
    return checked_forward("gelu", _gelu, x)


def gelu_backward(dy: Array, cache: Signed[Cache]) -> Array:
    """Gradient of x from that of x Φ(x).

    Raises
    ------
    CacheError
        If ``cache`` is not what :func:`gelu` has returned.
    ShapeError, DTypeError, NonFiniteError
        If ``dy`` is not like y, or not finite.
    """
    return checked_backward("gelu", _gelu_backward, dy, cache)


def _gelu(x: Array) -> tuple[Array, Cache]:
    """Return x Φ(x)  [gelu.1]."""
    if x.dtype.type in (np.longdouble, np.clongdouble):
        raise DTypeError(
            f"x: expected float32, float64 or complex128 for gelu; got {x.dtype.name}, "
            "for which there is gelu_tanh"
        )
    distribution = _ndtr()(x)
    return x * distribution, (x, distribution)


def _gelu_backward(dy: Array, cache: Cache) -> Array:
    """Gradient of x from that of x Φ(x)  [gelu.2]."""
    x, distribution = cache
    near = _within(x, 1e2)  # further out the density is 0
    dx = np.exp(near * near * -0.5)
    dx *= near
    dx *= (2 * np.pi) ** -0.5
    dx += distribution
    dx *= dy
    return dx


def gelu_tanh(x: Array) -> tuple[Array, Signed[Cache]]:
    """Return x σ(2u), u = √(2/π) (x + 0.044715 x³), and what its backward needs.

    ½ (1 + tanh u) = σ(2u): this is the usual approximation of :func:`gelu`.

    Raises
    ------
    DTypeError, NonFiniteError
        If ``x`` is not an array of finite floating-point numbers.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = gelu_tanh(np.array([0.0, 1.0]))
    >>> y.round(4), gelu_tanh_backward(np.ones(2), cache).round(4)
    (array([0.    , 0.8412]), array([0.5  , 1.083]))
    """
    return checked_forward("gelu_tanh", _gelu_tanh, x)


def gelu_tanh_backward(dy: Array, cache: Signed[Cache]) -> Array:
    """Gradient of x from that of x σ(2u).

    Raises
    ------
    CacheError
        If ``cache`` is not what :func:`gelu_tanh` has returned.
    ShapeError, DTypeError, NonFiniteError
        If ``dy`` is not like y, or not finite.
    """
    return checked_backward("gelu_tanh", _gelu_tanh_backward, dy, cache)


def _gelu_tanh(x: Array) -> tuple[Array, Cache]:
    """Return x σ(2u)  [gelu.3]."""
    near = _within(x, 1e2)  # further out σ is 0 or 1
    s = sigmoid(_SLOPE * near * (1 + _CUBIC * (near * near)))
    return s * maximum(x, near), (near, s)


def _gelu_tanh_backward(dy: Array, cache: Cache) -> Array:
    """Gradient of x from that of x σ(2u)  [gelu.4]."""
    near, s = cache
    dx = 1 - s
    dx *= s  # σ′
    dx *= _SLOPE * (1 + 3 * _CUBIC * (near * near))
    dx *= near
    dx += s
    dx *= dy
    return dx


_SLOPE, _CUBIC = (8 / np.pi) ** 0.5, 0.044715


def _sigmoid(x: Array) -> tuple[Array, Cache]:
    """σ(x), and e^−x too, since 1 − σ has no digits where σ is close to 1."""
    e = exp_minus(x)
    s = e + 1
    np.reciprocal(s, out=s)
    return s, (e, s)


def _sigmoid_backward(dy: Array, cache: Cache) -> Array:
    e, s = cache
    dx = e * s
    dx *= s
    dx *= dy
    return dx


def _relu(x: Array) -> tuple[Array, Cache]:
    y: Array = x * (x.real > 0)
    return y, (y,)


def _relu_backward(dy: Array, cache: Cache) -> Array:
    """Slope 0 at 0."""
    (y,) = cache
    dx: Array = dy * (y.real > 0)
    return dx


def _squared_relu(x: Array) -> tuple[Array, Cache]:
    positive, _ = _relu(x)
    return positive * positive, (positive,)


def _squared_relu_backward(dy: Array, cache: Cache) -> Array:
    (positive,) = cache
    dx: Array = dy * (2 * positive)
    return dx


_SCALE, _ALPHA = 1.0507009873554805, 1.6732632423543772


def _selu(x: Array) -> tuple[Array, Cache]:
    """Λ x, or λ α (eˣ − 1) for x ≤ 0."""
    positive = x.real > 0
    curved = _SCALE * _ALPHA * np.expm1(np.where(positive, 0, x))
    return np.where(positive, _SCALE * np.where(positive, x, 0), curved), (positive, curved)


def _selu_backward(dy: Array, cache: Cache) -> Array:
    """Slope λ α at 0."""
    positive, curved = cache
    return dy * np.where(positive, _SCALE, curved + _SCALE * _ALPHA)


@cache
def _ndtr() -> Any:
    """SciPy's Φ, imported when it is needed: that takes as long as importing NumPy."""
    from scipy.special import ndtr

    return ndtr


def _within(x: Array, limit: float) -> Array:
    """Return x, moved to ±``limit`` where it is further out."""
    most = x.dtype.type(limit)
    return maximum(minimum(x, most), -most)


ACTIVATIONS: dict[str, Activation] = {
    "gelu": Activation(_gelu, _gelu_backward),
    "gelu_tanh": Activation(_gelu_tanh, _gelu_tanh_backward),
    "relu": Activation(_relu, _relu_backward),
    "relu^2": Activation(_squared_relu, _squared_relu_backward),
    "sigmoid": Activation(_sigmoid, _sigmoid_backward),
    "swish": Activation(_silu, _silu_backward),
    "selu": Activation(_selu, _selu_backward),
}
"""The activations by the names that the official package gives them, and ``gelu_tanh``."""
