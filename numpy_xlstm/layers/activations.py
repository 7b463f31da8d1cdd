"""Elementwise maps: activations between layers, the soft cap, and dropout.

Derived in ``docs/derivations/blocks.md``, whose tags are cited here. Each is a pair of functions
without checks: the forward returns residuals, from which the backward computes the gradient of x.
:class:`Activation`, :class:`SoftCap` and :class:`Dropout` are layers made of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import DTypeError, OptionError
from numpy_xlstm.kernels.maps import silu, silu_backward
from numpy_xlstm.layers.base import BaseLayer, Layer, LayerCache
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_generator,
    checked_above_zero,
    checked_choice,
    checked_range,
    is_number,
    own_error_state,
    tanh_slope,
)
from numpy_xlstm.numerics.activations import clip, maximum, sigmoid, sigmoid_and_slope

SLOPE, CUBIC = (8 / np.pi) ** 0.5, 0.044715
"""Constants of the approximation of GELU: 2u = SLOPE (x + CUBIC x³)."""

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772
"""λ and α of SELU."""


def gelu(x: Array) -> tuple[Array, Any]:
    """Return x Φ(x), Φ the normal distribution function."""
    if x.dtype.type in (np.longdouble, np.clongdouble):
        raise DTypeError(
            f"x: expected float32, float64 or complex128 for gelu; got {x.dtype.name} "
            "(use gelu_tanh)"
        )
    from scipy.special import ndtr  # here, because this import takes as long as that of NumPy

    distribution = ndtr(x)
    return x * distribution, (x, distribution)  # [gelu.1]


def gelu_backward(dy: Array, cache: Any) -> Array:
    """Return the gradient of x."""
    x, distribution = cache
    near = clip(x, 1e2)  # outside ±100 the density is 0
    density = np.exp(near * near * -0.5) * (2 * np.pi) ** -0.5
    dx: Array = dy * (distribution + near * density)  # [gelu.2]
    return dx


def gelu_tanh(x: Array) -> tuple[Array, Any]:
    """Return x σ(2u), the usual approximation of GELU, because ½ (1 + tanh u) = σ(2u)."""
    near = clip(x, 1e2)  # outside ±100 σ is 0 or 1
    s = sigmoid(SLOPE * near * (1 + CUBIC * (near * near)))
    return s * maximum(x, near), (near, s)  # [gelu.3]


def gelu_tanh_backward(dy: Array, cache: Any) -> Array:
    """Return the gradient of x."""
    near, s = cache
    slope = s * (1 - s) * SLOPE * (1 + 3 * CUBIC * (near * near))
    dx: Array = dy * (s + near * slope)  # [gelu.4]
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


def soft_cap(x: Array, cap: float | None) -> tuple[Array, Any]:
    """Return a tanh(x / a), with a = ``cap``; x for None."""
    if cap is None:
        return x, None
    y = cap * np.tanh(x / cap)  # [cap.1]
    return y, (x, cap)


def soft_cap_backward(dy: Array, cache: Any) -> Array:
    """Return the gradient of x: δx = tanh′(x / a) ∘ δy."""
    if cache is None:
        return dy
    x, cap = cache
    return dy * tanh_slope(x / cap)  # [cap.2]


def check_cap(name: str, cap: Any) -> None:
    """Raise :class:`OptionError` unless ``cap`` is None or positive, in the range of float32."""
    limits = np.finfo(np.float32)
    least, most = limits.tiny.item(), limits.max.item()
    if cap is not None and not (is_number(cap) and least <= float(cap) <= most):
        expected = "a number above 0, in the range of float32, or None"
        raise OptionError(f"{name}: expected {expected}; got {cap!r}")


class Pair(NamedTuple):
    """An elementwise function and its vector-Jacobian product, both without checks."""

    forward: Callable[[Array], tuple[Array, Any]]  # x to y and residuals
    backward: Callable[[Array, Any], Array]  # cotangent and residuals to gradient of x


ACTIVATIONS: dict[str, Pair] = {
    "gelu": Pair(gelu, gelu_backward),
    "gelu_tanh": Pair(gelu_tanh, gelu_tanh_backward),
    "relu": Pair(_relu, lambda dy, y: dy * (y.real > 0)),
    "relu^2": Pair(_squared_relu, lambda dy, y: dy * (2 * y)),
    "sigmoid": Pair(sigmoid_and_slope, np.multiply),
    "swish": Pair(silu, silu_backward),
    "selu": Pair(_selu, lambda dy, kept: dy * np.where(kept[0], SCALE, kept[1] + SCALE * ALPHA)),
}
"""Activations by the official package's names, and ``gelu_tanh``. At a kink, the left slope."""


class Activation(Layer):
    r"""An elementwise function as a layer, for x (..., D) of any width and dtype.

    - "swish", also known as SiLU: x σ(x); "gelu": x Φ(x), Φ the normal distribution function;
    - "gelu_tanh", the usual approximation of it: ½ x (1 + tanh u), u = √(2/π) (x + 0.044715 x³);
    - "relu": max(x, 0); "relu^2": its square; "sigmoid": σ(x);
    - "selu": λ x for x > 0, else λ α (eˣ − 1), λ = 1.0507…, α = 1.6732….

    Parameters
    ----------
    act_fn : str
        Name of the function. "gelu" refuses extended precision, for which SciPy has no Φ.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Activation("swish")
    >>> y, cache = layer.forward(np.array([0.0, 1.0]))
    >>> dx, grads = layer.backward(np.array([1.0, 1.0]), cache)
    >>> y.round(4), dx.round(4), grads
    (array([0.    , 0.7311]), array([0.5   , 0.9277]), {})
    """

    def __init__(self, act_fn: str) -> None:
        self.act_fn = checked_choice("act_fn", act_fn, ACTIVATIONS)

    def check_input(self, x: Any) -> None:
        check_array("x", x, (..., "D"))

    def compute(self, x: Array) -> tuple[Array, Any]:
        return ACTIVATIONS[self.act_fn].forward(x)

    def compute_backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        return ACTIVATIONS[self.act_fn].backward(dy, cache), {}


class SoftCap(Activation):
    r"""Layer that squashes x (..., D) into (−a, a), as xLSTM Large does with gates and logits.

    .. math:: y = a \tanh(x / a)

    Parameters
    ----------
    cap : float
        a, above 0.

    Examples
    --------
    >>> import numpy as np
    >>> layer = SoftCap(15.0)
    >>> y, cache = layer.forward(np.array([0.0, 15.0, 1e9]))
    >>> dx, _ = layer.backward(np.array([1.0, 1.0, 1.0]), cache)
    >>> y.round(3), dx.round(3)
    (array([ 0.   , 11.424, 15.   ]), array([1.  , 0.42, 0.  ]))
    """

    def __init__(self, cap: float) -> None:
        check_cap("cap", checked_above_zero("cap", cap))
        self.cap = cap

    def compute(self, x: Array) -> tuple[Array, Any]:
        return soft_cap(x, self.cap)

    def compute_backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        return soft_cap_backward(dy, cache), {}


class Dropout(BaseLayer):
    r"""Dropout: entries set to 0 at random, the others scaled up to preserve the mean.

    .. math:: y = x ∘ s, \qquad s = \tfrac{1}{1-p} \text{ with probability } 1 - p, \text{ else } 0

    Parameters
    ----------
    p : float
        Probability that an entry is set to 0, in [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> dropout = Dropout(0.5)
    >>> y, cache = dropout.forward(np.ones(6), np.random.default_rng(1))
    >>> y
    array([2., 2., 0., 2., 0., 0.])
    >>> dropout.backward(np.full(6, 3.0), cache)
    array([6., 6., 0., 6., 0., 0.])
    >>> dropout.forward(np.ones(2))[0]
    array([1., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = checked_dropout(p)

    @own_error_state
    def forward(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, LayerCache]:
        """Drop random entries of x. Without ``rng``, as in evaluation, drop none.

        Returns y and residuals for :meth:`backward`.
        """
        check_generator("rng", rng)
        check_array("x", x, (..., "D"))
        y, factors = drop(x, self.p, rng)
        return y, LayerCache(factors, None, y.shape, y.dtype, self)

    @own_error_state
    def backward(self, dy: Array, cache: LayerCache) -> Array:
        """Return the gradient of x, δx = s ∘ δy."""
        self.check_backward(dy, cache)
        return drop_backward(dy, cache.kept)


def checked_dropout(p: Any) -> float:
    """Return the probability, or raise :class:`OptionError`."""
    return checked_range("dropout", p, 0, 1)


def drop(x: Array, p: float, rng: np.random.Generator | None) -> tuple[Array, Array | None]:
    """Compute y and the factors s, None if nothing is dropped, without checks."""
    if rng is None or p == 0:
        return x, None
    kept = rng.random(x.shape) >= p
    factors = kept * x.real.dtype.type(1 / (1 - p))
    return x * factors, factors  # [dropout.1]


def drop_backward(dy: Array, factors: Array | None) -> Array:
    """Compute the backward without checks."""
    return dy if factors is None else dy * factors  # [dropout.2]
