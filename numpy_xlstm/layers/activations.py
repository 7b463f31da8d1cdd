"""Activation functions between layers, as pairs of value and slope.

Derived in ``docs/derivations/blocks.md``, whose tags are cited here.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from numpy_xlstm.errors import DTypeError
from numpy_xlstm.numerics import Array, check_choice, sigmoid_and_slope
from numpy_xlstm.numerics.activations import lowest, maximum, minimum

ValueAndSlope = tuple[Array, Array]


def silu(x: Array) -> ValueAndSlope:
    """Return x σ(x), also known as swish, and its slope  [silu.1]  [silu.2].

    Examples
    --------
    >>> import numpy as np
    >>> value, slope = silu(np.array([0.0, 1.0]))
    >>> value.round(4), slope.round(4)
    (array([0.    , 0.7311]), array([0.5   , 0.9277]))
    """
    near = maximum(x, lowest(x.dtype))  # σ stays above 0, and must not meet −1e38
    s, slope = sigmoid_and_slope(near)
    slope *= near
    slope += s
    s *= near
    return s, slope


def gelu(x: Array) -> ValueAndSlope:
    """Return x Φ(x), Φ the normal distribution, and its slope  [gelu.1]  [gelu.2].

    Raises
    ------
    DTypeError
        If ``x`` is of extended precision, for which SciPy has no Φ; :func:`gelu_tanh` takes it.

    Examples
    --------
    >>> import numpy as np
    >>> value, slope = gelu(np.array([0.0, 1.0]))
    >>> value.round(4), slope.round(4)
    (array([0.    , 0.8413]), array([0.5   , 1.0833]))
    """
    if x.dtype.type in (np.longdouble, np.clongdouble):
        raise DTypeError(
            f"x: expected float32, float64 or complex128 for gelu; got {x.dtype.name}, "
            "for which there is gelu_tanh"
        )
    value = _ndtr()(x)
    near = _within(x, 1e2)  # further out the density is 0
    slope = np.exp(near * near * -0.5)
    slope *= near
    slope *= (2 * np.pi) ** -0.5
    slope += value
    value *= x
    return value, slope


def gelu_tanh(x: Array) -> ValueAndSlope:
    """Return x σ(2u), u = √(2/π) (x + 0.044715 x³), and its slope  [gelu.3]  [gelu.4].

    ½ (1 + tanh u) = σ(2u): this is the usual approximation of :func:`gelu`.

    Examples
    --------
    >>> import numpy as np
    >>> value, slope = gelu_tanh(np.array([0.0, 1.0]))
    >>> value.round(4), slope.round(4)
    (array([0.    , 0.8412]), array([0.5  , 1.083]))
    """
    c, near = (8 / np.pi) ** 0.5, _within(x, 1e2)  # further out σ is 0 or 1
    square = near * near
    s, slope = sigmoid_and_slope(c * near * (1 + 0.044715 * square))
    slope *= c * (1 + 3 * 0.044715 * square)
    slope *= near
    slope += s
    s *= maximum(x, near)
    return s, slope


def relu(x: Array) -> ValueAndSlope:
    """Return max(x, 0) and its slope, 0 at 0."""
    slope = (x.real > 0).astype(x.dtype)
    return x * slope, slope


def squared_relu(x: Array) -> ValueAndSlope:
    """Return max(x, 0)² and its slope."""
    positive, _ = relu(x)
    return positive * positive, 2 * positive


def selu(x: Array) -> ValueAndSlope:
    """Return λ x, or λ α (eˣ − 1) for x ≤ 0, and its slope, λ α at 0."""
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    positive = x.real > 0
    curved = scale * alpha * np.expm1(np.where(positive, 0, x))
    straight = scale * np.where(positive, x, 0)
    return np.where(positive, straight, curved), np.where(positive, scale, curved + scale * alpha)


@cache
def _ndtr() -> Any:
    """SciPy's Φ, imported when it is needed: that takes as long as importing NumPy."""
    from scipy.special import ndtr

    return ndtr


def _within(x: Array, limit: float) -> Array:
    """Return x, moved to ±``limit`` where it is further out."""
    most = x.dtype.type(limit)
    return maximum(minimum(x, most), -most)


ACTIVATIONS: dict[str, Callable[[Array], ValueAndSlope]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": relu,
    "relu^2": squared_relu,
    "sigmoid": sigmoid_and_slope,
    "swish": silu,
    "selu": selu,
}
"""The activations by the names that the official package gives them, and ``gelu_tanh``."""


def check_activation(name: str, value: str) -> Callable[[Array], ValueAndSlope]:
    """Return the activation of that name, or raise :class:`OptionError`."""
    return ACTIVATIONS[check_choice(name, value, ACTIVATIONS)]
