"""Activation functions between layers and the soft cap, as pairs of forward and backward.

Derived in ``docs/derivations/blocks.md``, whose tags are cited here. The public pairs check their
arguments. The functions in :data:`ACTIVATIONS`, which layers and models call, do not.
"""

from collections.abc import Callable
from inspect import unwrap
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import DTypeError, OptionError
from numpy_xlstm.kernels import silu as kernel
from numpy_xlstm.numerics import Array, check_above_zero, is_number, tanh_slope
from numpy_xlstm.numerics.activations import clip, maximum, sigmoid, sigmoid_and_slope
from numpy_xlstm.validation import checked_backward, checked_forward

SLOPE, CUBIC = (8 / np.pi) ** 0.5, 0.044715
"""Constants of the approximation of GELU: 2u = SLOPE (x + CUBIC x³)."""

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772
"""λ and α of SELU."""


@checked_forward
def silu(x: Array) -> tuple[Array, tuple[Array, Array]]:
    """Return x σ(x), also known as swish, and residuals for the backward  [silu.1].

    Parameters
    ----------
    x : np.ndarray
        Numbers in any shape.

    Returns
    -------
    y : np.ndarray
        Result, in the shape of x.
    cache
        Residuals for :func:`silu_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = silu(np.array([0.0, 1.0]))
    >>> y.round(4), silu_backward(np.ones(2), cache).round(4)
    (array([0.    , 0.7311]), array([0.5   , 0.9277]))
    """
    y, s = kernel.forward(x)
    return y, (y, s)


@checked_backward
def silu_backward(dy: Array, cache: tuple[Array, Array]) -> Array:
    """Return the gradient of x from the cotangent of x σ(x)  [silu.2].

    Parameters
    ----------
    dy : np.ndarray
        Cotangent of y, in its shape.
    cache
        The cache that :func:`silu` returned.

    Returns
    -------
    dx : np.ndarray
        Gradient of x, in its shape.
    """
    return kernel.backward(dy, *cache)


@checked_forward
def gelu(x: Array) -> tuple[Array, tuple[Array, Array]]:
    """Return x Φ(x), Φ the normal distribution function, and residuals for the backward  [gelu.1].

    Extended precision is refused, because SciPy has no Φ for it; :func:`gelu_tanh` accepts it.

    Parameters
    ----------
    x : np.ndarray
        As in :func:`silu`.

    Returns
    -------
    y, cache
        As from :func:`silu`.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = gelu(np.array([0.0, 1.0]))
    >>> y.round(4), gelu_backward(np.ones(2), cache).round(4)
    (array([0.    , 0.8413]), array([0.5   , 1.0833]))
    """
    if x.dtype.type in (np.longdouble, np.clongdouble):
        raise DTypeError(
            f"x: expected float32, float64 or complex128 for gelu; got {x.dtype.name} "
            "(use gelu_tanh)"
        )
    from scipy.special import ndtr  # here, because this import takes as long as that of NumPy

    distribution = ndtr(x)
    return x * distribution, (x, distribution)


@checked_backward
def gelu_backward(dy: Array, cache: tuple[Array, Array]) -> Array:
    """Return the gradient of x from the cotangent of x Φ(x)  [gelu.2].

    Parameters
    ----------
    dy, cache
        As in :func:`silu_backward`, with the cache of :func:`gelu`.

    Returns
    -------
    dx
        As from :func:`silu_backward`.
    """
    x, distribution = cache
    near = clip(x, 1e2)  # outside ±100 the density is 0
    density = np.exp(near * near * -0.5) * (2 * np.pi) ** -0.5
    dx: Array = dy * (distribution + near * density)
    return dx


@checked_forward
def gelu_tanh(x: Array) -> tuple[Array, tuple[Array, Array]]:
    """Return x σ(2u), u = √(2/π) (x + 0.044715 x³), and residuals for the backward  [gelu.3].

    This is the usual approximation of :func:`gelu`, because ½ (1 + tanh u) = σ(2u).

    Parameters
    ----------
    x : np.ndarray
        As in :func:`silu`.

    Returns
    -------
    y, cache
        As from :func:`silu`.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = gelu_tanh(np.array([0.0, 1.0]))
    >>> y.round(4), gelu_tanh_backward(np.ones(2), cache).round(4)
    (array([0.    , 0.8412]), array([0.5  , 1.083]))
    """
    near = clip(x, 1e2)  # outside ±100 σ is 0 or 1
    s = sigmoid(SLOPE * near * (1 + CUBIC * (near * near)))
    return s * maximum(x, near), (near, s)


@checked_backward
def gelu_tanh_backward(dy: Array, cache: tuple[Array, Array]) -> Array:
    """Return the gradient of x from the cotangent of x σ(2u)  [gelu.4].

    Parameters
    ----------
    dy, cache
        As in :func:`silu_backward`, with the cache of :func:`gelu_tanh`.

    Returns
    -------
    dx
        As from :func:`silu_backward`.
    """
    near, s = cache
    slope = s * (1 - s) * SLOPE * (1 + 3 * CUBIC * (near * near))
    dx: Array = dy * (s + near * slope)
    return dx


def _relu(x: Array) -> tuple[Array, Any]:
    y: Array = x * (x.real > 0)
    return y, y


def _squared_relu(x: Array) -> tuple[Array, Any]:
    y, _ = _relu(x)
    return y * y, y


def _selu(x: Array) -> tuple[Array, Any]:
    """Return λ x, or λ α (eˣ − 1) for x ≤ 0."""
    positive = x.real > 0
    curved = SCALE * ALPHA * np.expm1(np.where(positive, 0, x))
    return np.where(positive, SCALE * np.where(positive, x, 0), curved), (positive, curved)


@checked_forward
def soft_cap(x: Array, cap: float) -> tuple[Array, tuple[Array, float]]:
    r"""Squash x into (−a, a). xLSTM Large caps the gates' pre-activations and the logits.

    .. math:: y = a \tanh(x / a)

    Parameters
    ----------
    x : np.ndarray
        Any shape.
    cap : float
        a, above 0.

    Returns
    -------
    y : np.ndarray
        Result, in the shape of x.
    cache
        Residuals for :func:`soft_cap_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = soft_cap(np.array([0.0, 15.0, 1e9]), 15.0)
    >>> y.round(3)
    array([ 0.   , 11.424, 15.   ])
    >>> soft_cap_backward(np.ones(3), cache).round(3)
    array([1.  , 0.42, 0.  ])
    """
    check_cap("cap", check_above_zero("cap", cap))
    return apply_cap(x, cap)


@checked_backward
def soft_cap_backward(dy: Array, cache: tuple[Array, float]) -> Array:
    """Return the gradient of x: δx = tanh′(x / a) ∘ δy.

    Parameters
    ----------
    dy, cache
        As in :func:`silu_backward`, with the cache of :func:`soft_cap`.

    Returns
    -------
    dx
        As from :func:`silu_backward`.
    """
    x, cap = cache
    return dy * tanh_slope(x / cap)  # [cap.2]


apply_cap_backward = unwrap(soft_cap_backward)
"""Compute the backward without checks."""


def apply_cap(x: Array, cap: float) -> tuple[Array, tuple[Array, float]]:
    """Compute the forward without checks."""
    y = cap * np.tanh(x / cap)  # [cap.1]
    return y, (x, cap)


def check_cap(name: str, cap: Any) -> None:
    """Raise :class:`OptionError` unless ``cap`` is None or positive, in the range of float32."""
    if cap is not None and not (is_number(cap) and 0 < cap < np.inf):
        raise OptionError(f"{name}: expected a number above 0, or None; got {cap!r}")
    limits = np.finfo(np.float32)
    if cap is not None and not limits.tiny.item() <= float(cap) <= limits.max.item():
        raise OptionError(f"{name}: expected a number in the range of float32; got {cap!r}")


class Activation(NamedTuple):
    """An elementwise function and its vector-Jacobian product, both without checks."""

    forward: Callable[[Array], tuple[Array, Any]]  # x to y and residuals
    backward: Callable[[Array, Any], Array]  # cotangent and residuals to gradient of x


ACTIVATIONS: dict[str, Activation] = {
    "gelu": Activation(unwrap(gelu), unwrap(gelu_backward)),
    "gelu_tanh": Activation(unwrap(gelu_tanh), unwrap(gelu_tanh_backward)),
    "relu": Activation(_relu, lambda dy, y: dy * (y.real > 0)),
    "relu^2": Activation(_squared_relu, lambda dy, y: dy * (2 * y)),
    "sigmoid": Activation(sigmoid_and_slope, np.multiply),
    "swish": Activation(unwrap(silu), unwrap(silu_backward)),
    "selu": Activation(
        _selu, lambda dy, kept: dy * np.where(kept[0], SCALE, kept[1] + SCALE * ALPHA)
    ),
}
"""Activations by the official package's names, and ``gelu_tanh``. At a kink, the left slope."""
