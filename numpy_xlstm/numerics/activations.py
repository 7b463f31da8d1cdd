"""Gate activations and their derivatives, with small relative errors in the tails as well.

A slope is never formed as y (1 − y) or 1 − y² from the value: where a gate is saturated that is all
cancellation. Results below the smallest normal number have what digits are left there, or none.

A real array takes the fast path. A complex array takes the branch that its real part would take,
and nothing here conjugates or takes a modulus, so that an infinitesimal imaginary part carries the
derivative: this is what the complex-step method needs.
"""

from functools import cache
from typing import Any

import numpy as np

from numpy_xlstm.numerics.arrays import Array

own_error_state = np.errstate(under="ignore", invalid="ignore")
"""Decorates what is public, so that it computes alike, whatever error state the caller has set.

A result too small for the format is 0. Nothing here is invalid, as what is not finite is refused; a
product of matrices may say so all the same: with AVX-512, OpenBLAS's float32 product of a row and a
matrix of five columns reads memory that it has not written, and where a signalling NaN happens to
lie there, sets the flag beside a right result.
"""


def sigmoid(x: Array) -> Array:
    """Logistic function σ(x) = 1 / (1 + e^−x)."""
    return 1 / (1 + exp_minus(x))


def sigmoid_and_slope(x: Array) -> tuple[Array, Array]:
    """σ(x), and σ′(x) = σ(x) σ(−x) = e^−x σ(x)²."""
    e = exp_minus(x)
    y = 1 / (e + 1)
    return y, e * y * y


def sigmoid_slope(x: Array) -> Array:
    """σ′(x) = σ(x) σ(−x)."""
    return sigmoid(x) * sigmoid(-x)


def tanh_slope(x: Array) -> Array:
    """tanh′(x) = 4 e / (1 + e)² with e = e^−2|x|."""
    e: Array = np.exp(-2 * modulus(x))
    slope: Array = 4 * e / ((1 + e) * (1 + e))
    return slope


def log_sigmoid(x: Array) -> Array:
    """Log σ(x) = min(x, 0) − log(1 + e^−|x|), stable at any magnitude."""
    y: Array = minimum(x, x.dtype.type(0)) - np.log1p(np.exp(-modulus(x)))
    return y


def log_sigmoid_slope(x: Array) -> Array:
    """(log σ)′(x) = 1 − σ(x) = σ(−x)."""
    return sigmoid(-x)


def maximum(a: Array, b: Array, out: Array | None = None) -> Array:
    """Larger of ``a`` and ``b``, by their real parts; ``a`` where they tie."""
    return _either(np.maximum, np.greater_equal, a, b, out)


def minimum(a: Array, b: Array, out: Array | None = None) -> Array:
    """Smaller of ``a`` and ``b``, by their real parts; ``b`` where they tie."""
    return _either(np.minimum, np.less, a, b, out)


def _either(of_real: Any, takes_a: Any, a: Array, b: Array, out: Array | None) -> Array:
    """``of_real`` of real arrays; of complex ones what ``takes_a`` says of their real parts."""
    if a.dtype.kind != "c":
        chosen: Array = of_real(a, b, out=out)
    else:
        chosen = np.where(takes_a(a.real, b.real), a, b)
        if out is not None:
            out[...] = chosen
    return chosen


def exp_minus(x: Array, out: Array | None = None) -> Array:
    """e^−x, for x so negative that it would overflow the largest that does not."""
    # * −1, not np.negative, which NumPy 2.4 gets wrong in place on some strides
    y: Array = np.multiply(maximum(x, lowest(x.dtype), out), -1, out=out)
    return np.exp(y, out=y)


@cache
def lowest(dtype: np.dtype[Any]) -> Any:
    """The x below which e^−x overflows, nearly."""
    return np.log(np.finfo(dtype).tiny)


def clip(x: Array) -> Array:
    """Return x, moved to where neither e^x nor e^−x overflows or loses digits."""
    limit = -lowest(x.dtype)
    return maximum(minimum(x, limit), -limit)


def modulus(x: Array) -> Array:
    """|x|: x with the sign of its real part taken away."""
    if x.dtype.kind == "c":
        return np.where(x.real < 0, -x, x)
    modulus: Array = np.abs(x)
    return modulus


def dot(a: Array, b: Array) -> Array:
    """Sum of products over the last axis, by BLAS where it can; nothing is conjugated."""
    if a.dtype.kind == "c":
        product: Array = np.einsum("...i,...i->...", a, b)
    else:
        product = np.vecdot(a, b)
    return product[..., None]
