"""Gate activations and their derivatives, with small relative errors also in the tails.

A slope is never computed as y (1 − y) or 1 − y² from the value, because of cancellation where a
gate is saturated. Results below the smallest normal number lose digits.

Real arrays take a fast path. Complex arrays take the branch of their real parts, without conjugates
or moduli, so that an infinitesimal imaginary part carries the derivative, as required by the
complex-step method.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""A NumPy array of one of the supported dtypes, real or complex."""

Arrays = dict[str, Array]
"""Arrays by name."""

own_error_state = np.errstate(under="ignore", invalid="ignore")
"""Decorator of public functions, which makes them independent of the caller's error state.

Underflow gives 0. Because non-finite inputs are refused, no operation is invalid. A matrix product
may nevertheless set this flag: with AVX-512, OpenBLAS's float32 product of a row and a matrix of
five columns reads memory that it has not written, and a signalling NaN there sets the flag although
the result is right.
"""


def sigmoid(x: Array) -> Array:
    """Return the logistic function σ(x) = 1 / (1 + e^−x)."""
    return 1 / (1 + exp_minus(x))


def sigmoid_and_slope(x: Array) -> tuple[Array, Array]:
    """Return σ(x), and σ′(x) = σ(x) σ(−x) = e^−x σ(x)²."""
    e = exp_minus(x)
    y = 1 / (e + 1)
    return y, e * y * y


def sigmoid_slope(x: Array) -> Array:
    """Return σ′(x) = σ(x) σ(−x)."""
    return sigmoid(x) * sigmoid(-x)


def exp(x: Any) -> Any:
    """Return e^x."""
    return np.exp(x)


def log1p(x: Any) -> Any:
    """Return log(1 + x)."""
    return np.log1p(x)


def tanh_slope(x: Array) -> Array:
    """Return tanh′(x) = 4 e / (1 + e)² with e = e^−2|x|."""
    e = exp(-2 * modulus(x))
    slope: Array = 4 * e / ((1 + e) * (1 + e))
    return slope


def log_sigmoid(x: Any) -> Any:
    """Return log σ(x) = min(x, 0) − log(1 + e^−|x|), stable at any magnitude."""
    return minimum(x, 0) - log1p(exp(-modulus(x)))


def log_sigmoid_slope(x: Array) -> Array:
    """Return (log σ)′(x) = 1 − σ(x) = σ(−x)."""
    return sigmoid(-x)


def maximum(a: Array, b: Any) -> Array:
    """Return the larger of ``a`` and ``b`` by their real parts; ``a`` where they tie."""
    if a.dtype.kind == "c":
        return np.where(a.real >= b.real, a, b)
    larger: Array = np.maximum(a, b)
    return larger


def minimum(a: Array, b: Any) -> Array:
    """Return the smaller of ``a`` and ``b`` by their real parts; ``b`` where they tie."""
    if a.dtype.kind == "c":
        return np.where(a.real < b.real, a, b)
    smaller: Array = np.minimum(a, b)
    return smaller


def exp_minus(x: Array) -> Array:
    """Return e^−x, clipped to a finite number where it would overflow."""
    y: Array = -maximum(x, lowest(x.dtype))
    return np.exp(y, out=y)


@cache
def lowest(dtype: np.dtype[Any]) -> Any:
    """Return approximately the x below which e^−x overflows."""
    return np.log(np.finfo(dtype).tiny)


def clip(x: Array, limit: float | None = None) -> Array:
    """Return x clipped to ±``limit``.

    The default is the largest limit at which neither e^x nor e^−x loses digits.
    """
    most: Any = -lowest(x.dtype) if limit is None else x.dtype.type(limit)
    return maximum(minimum(x, most), -most)


def modulus(x: Array) -> Array:
    """Return |x|; for complex x, the one of x and −x whose real part is not negative."""
    if x.dtype.kind == "c":
        return np.where(x.real < 0, -x, x)
    modulus: Array = np.abs(x)
    return modulus


def dot(a: Array, b: Array) -> Array:
    """Return the sum of products over the last axis, with BLAS if possible, without conjugates."""
    if a.dtype.kind == "c":
        product: Array = (a * b).sum(axis=-1)  # einsum of NumPy 2.4 writes beyond an empty result
    else:
        product = np.vecdot(a, b)
    return product[..., None]
