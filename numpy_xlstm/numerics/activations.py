"""Gate activations and their derivatives, exact at any magnitude, analytic in complex numbers.

A real array takes the fast path. A complex array takes the same branch that its real part would
take, and nothing here conjugates or takes a modulus, so that an infinitesimal imaginary part
carries the derivative: this is what the complex-step method needs.
"""

from typing import Any

import numpy as np

from numpy_xlstm.numerics.arrays import Array


def sigmoid(x: Array, out: Array | None = None) -> Array:
    """Logistic function σ(x) = 1 / (1 + e^−x), with full relative precision in both tails."""
    if x.dtype.kind == "c":
        x = np.where(x.real < _lowest_exponent(x.dtype), _lowest_exponent(x.dtype), x)
    y: Array = np.negative(x, out=out)
    with np.errstate(over="ignore"):  # e^−x = inf gives σ = 0, which is its rounded value
        np.exp(y, out=y)
    y += 1
    return np.divide(1, y, out=y)


def sigmoid_slope(y: Array) -> Array:
    """σ′ = σ (1 − σ), from the value y = σ(x)."""
    slope: Array = 1 - y
    slope *= y
    return slope


def tanh_slope(y: Array) -> Array:
    """tanh′ = 1 − tanh², from the value y = tanh(x)."""
    slope: Array = y * y
    return np.subtract(1, slope, out=slope)


def log_sigmoid(x: Array) -> Array:
    """Log σ(x) = min(x, 0) − log(1 + e^−|x|), stable at any magnitude."""
    if x.dtype.kind == "c":
        negative = x.real < 0
        tail, bounded = np.where(negative, x, -x), np.where(negative, x, 0)
    else:
        tail, bounded = np.abs(x), np.minimum(x, 0)
        np.negative(tail, out=tail)
    np.exp(tail, out=tail)
    np.log1p(tail, out=tail)
    result: Array = np.subtract(bounded, tail, out=tail)
    return result


def log_sigmoid_slope(x: Array) -> Array:
    """(log σ)′ = 1 − σ(x) = σ(−x)."""
    return sigmoid(-x)


def maximum(a: Array, b: Array, first: Array) -> Array:
    """Larger of ``a`` and ``b``, where ``first`` says at which entries that is ``a``."""
    if a.dtype.kind == "c":
        return np.where(first, a, b)
    larger: Array = np.maximum(a, b)
    return larger


def _lowest_exponent(dtype: np.dtype[Any]) -> Any:
    return np.log(np.finfo(dtype).tiny)
