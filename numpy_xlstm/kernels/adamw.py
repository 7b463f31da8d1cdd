"""A step of AdamW, derived in ``docs/derivations/layers.md``."""

import math
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.kernels.functions import compiled, kernel, pointwise, summation
from numpy_xlstm.numerics import Array, check_form


class Factors(NamedTuple):
    """Constants of a step, the same for all entries of a parameter."""

    shrink: float  # 1 − η λ, or 1
    rate: float  # η / (1 − β₁^t)
    root: float  # √(1 − β₂^t)
    beta1: float
    rest1: float  # 1 − β₁
    beta2: float
    rest2: float  # 1 − β₂
    eps: float


@pointwise
def updated(p: Any, g: Any, m: Any, v: Any, factors: Any) -> Any:
    """Return the new p, m and v; update arrays in place."""
    shrink, rate, root, beta1, rest1, beta2, rest2, eps = factors
    p *= shrink  # [adam.1]
    if rest1 < 0.5:  # [adam.2], in the form with the smaller rounding error
        m += rest1 * (g - m)
    else:
        m -= g
        m *= beta1
        m += g
    v *= beta2
    v += rest2 * (g * g)  # [adam.3]
    p -= rate * (m / (np.sqrt(v) / root + eps))  # [adam.4]
    return p, m, v


@kernel
def loop(p: Any, g: Any, m: Any, v: Any, scale: Any, factors: Any) -> None:
    """Update p, m and v in place."""
    for i in range(p.size):
        p[i], m[i], v[i] = updated(p[i], scale * g[i], m[i], v[i], factors)


def update(p: Array, g: Array, m: Array, v: Array, scale: float, factors: Factors) -> None:
    """Update p, m and v in place for the gradient ``g * scale``."""
    for name, array in (("g", g), ("m", m), ("v", v)):
        check_form(name, array, p.shape, p.dtype)
    contiguous = p.flags.c_contiguous and m.flags.c_contiguous and v.flags.c_contiguous
    if compiled(p.dtype) and contiguous:
        number = p.dtype.type
        p, g, m, v = (np.ascontiguousarray(a).reshape(-1) for a in (p, g, m, v))
        loop(p, g, m, v, number(scale), tuple(map(number, factors)))
    else:
        updated(p, g if scale == 1 else g * scale, m, v, factors)


@summation
def squares(p: Any, g: Any, m: Any, v: Any) -> Any:
    """Return the sums of squares of four arrays of one size, which are read at the same time."""
    P = G = M = V = p.dtype.type(0)
    for i in range(p.size):
        P += p[i] * p[i]
        G += g[i] * g[i]
        M += m[i] * m[i]
        V += v[i] * v[i]
    return P, G, M, V


def norms(*arrays: Array) -> Array:
    """Return the norms of four arrays of one shape, which bound their numbers.

    Numbers whose squares underflow are ignored.
    """
    rows = [array.ravel("K") for array in arrays]
    fast = compiled(rows[0].dtype)
    norms: Array = np.sqrt(squares(*rows) if fast else [np.dot(row, row) for row in rows])
    return norms


@summation
def wide_square(g: Any) -> Any:
    """Return the sum of squares of float32 numbers in float64, which holds them all."""
    total = np.float64(0)
    for i in range(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


def norm(array: Array) -> float:
    """Return the norm of an array (N,) in float64, without overflow or underflow."""
    if array.dtype == np.float32 and compiled(np.float32):
        return math.sqrt(wide_square(array))
    from scipy.linalg.blas import dnrm2  # here, since it takes long to import

    wide: float = dnrm2(array.astype(np.float64, copy=False))
    return wide
