"""SiLU, x σ(x), derived in ``docs/derivations/blocks.md``."""

from typing import Any

import numpy as np

from numpy_xlstm.kernels.functions import compiled, exp, kernel, maximum, pointwise
from numpy_xlstm.kernels.parts import check_residual
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.activations import lowest


@pointwise
def value_and_gate(x: Any, least: Any) -> Any:
    """Return x σ(x) and σ(x)."""
    # Below ``least``, e^−x would overflow. The product also uses ``near``, because −1e38 times
    # σ(least) would not be near 0.
    near = maximum(x, least)
    s = 1 / (1 + exp(-near))
    return near * s, s  # [silu.1]


@pointwise
def slope(y: Any, s: Any) -> Any:
    """Return the derivative of x σ(x) with respect to x."""
    return s + y * (1 - s)  # [silu.2]


@kernel
def loop(x: Any, least: Any, y: Any, s: Any) -> None:
    """Write x σ(x) and σ(x)."""
    for i in range(x.size):
        y[i], s[i] = value_and_gate(x[i], least)


@kernel
def loop_backward(dy: Any, y: Any, s: Any, dx: Any) -> None:
    """Write the gradient of x."""
    for i in range(dy.size):
        dx[i] = dy[i] * slope(y[i], s[i])


def forward(x: Array) -> tuple[Array, Array]:
    """Return x σ(x) and σ(x)."""
    least = lowest(x.dtype)
    if not compiled(x.dtype):
        y, s = value_and_gate(x, least)
        return y, s
    y, s = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    loop(flat(x), least, flat(y), flat(s))
    return y, s


def backward(dy: Array, y: Array, s: Array) -> Array:
    """Return the gradient of x."""
    for name, array in (("x σ(x)", y), ("σ(x)", s)):
        check_residual(name, array, dy.shape, dy.dtype)
    if not compiled(dy.dtype):
        dx: Array = dy * slope(y, s)
        return dx
    dx = np.empty(dy.shape, dy.dtype)
    loop_backward(flat(dy), flat(y), flat(s), flat(dx))
    return dx


def flat(array: Array) -> Array:
    """Return a one-dimensional view of the array, or a copy if it is not in C-order."""
    return np.ascontiguousarray(array).reshape(-1)
