"""Functions of numbers that kernels are written in, once for arrays and for compiled loops.

Called from Python they are NumPy's functions of arrays, real and complex. Where numba is installed,
a loop marked by :func:`kernel` takes them, and each function marked by :func:`pointwise`, as
functions of one number. Then a literal does not widen the numbers it meets, just as in NumPy:
``1 / (1 + exp(-x))`` of a float32 is a float32.

Numba is imported, and a kernel compiled or found on disk, when the first kernel is called.
"""

import os
from collections.abc import Callable
from functools import cache, wraps
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from numpy_xlstm.numerics import activations

Function = TypeVar("Function", bound=Callable[..., Any])

_marked: list[tuple[Callable[..., Any], Callable[..., Any], bool]] = []
"""Functions that numba does not know yet: the name, the function to compile, whether to inline."""

_registering = Lock()


def pointwise(function: Function) -> Function:
    """Mark a function of numbers that kernels call; it is inlined in their loops."""
    _marked.append((function, function, True))
    return function


def kernel(function: Function) -> Function:
    """Mark a loop over numbers, in arrays of float32 or float64; compile it at its first call."""

    @wraps(function)
    def run(*args: Any) -> Any:
        return _dispatcher(function)(*args)

    _marked.append((run, function, False))
    return run  # type: ignore[return-value]


def compiled(dtype: Any = np.float64) -> bool:
    """Return whether kernels of this dtype are compiled.

    They are if numba is installed and knows this Python and this NumPy, unless the environment has
    ``NUMPY_XLSTM_COMPILED=0``.
    """
    if dtype not in (np.float32, np.float64) or os.environ.get("NUMPY_XLSTM_COMPILED") == "0":
        return False
    try:
        from numba import config
    except ImportError:
        return False
    return not config.DISABLE_JIT


@cache
def _dispatcher(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return numba's dispatcher of a kernel, or the kernel itself if nothing is compiled."""
    if not compiled():
        return function
    from numpy_xlstm.kernels import compiler, elementary  # noqa: F401

    with _registering:
        while _marked:
            compiler.register(*_marked.pop())
    return compiler.dispatcher(function)


def exp(x: Any) -> Any:
    """Return e^x."""
    return np.exp(x)


def tanh(x: Any) -> Any:
    """Return tanh(x)."""
    return np.tanh(x)


def log1p(x: Any) -> Any:
    """Return log(1 + x)."""
    return np.log1p(x)


def maximum(a: Any, b: Any) -> Any:
    """Return the larger of ``a`` and ``b``, by their real parts."""
    return activations.maximum(a, b)


def minimum(a: Any, b: Any) -> Any:
    """Return the smaller of ``a`` and ``b``, by their real parts."""
    return activations.minimum(a, b)


def modulus(x: Any) -> Any:
    """Return x with the sign of its real part taken away."""
    return activations.modulus(x)


def where(condition: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where the condition holds, else ``b``."""
    return np.where(condition, a, b)


@pointwise
def sigmoid(x: Any) -> Any:
    """Return σ(x) = 1 / (1 + e^−x)."""
    return sigmoid_and_slope(x)[0]


@pointwise
def sigmoid_and_slope(x: Any) -> Any:
    """Return σ(x), and σ′(x) = σ(x) σ(−x), both accurate in the tails."""
    e = exp(-modulus(x))
    s = 1 / (1 + e)
    return where(x >= 0, s, e * s), e * s * s


@pointwise
def tanh_slope(x: Any) -> Any:
    """Return tanh′(x) = 4 e / (1 + e)² with e = e^−2|x|."""
    e = exp(-2 * modulus(x))
    return 4 * e / ((1 + e) * (1 + e))


@pointwise
def log_sigmoid(x: Any) -> Any:
    """Return log σ(x) = min(x, 0) − log(1 + e^−|x|)."""
    return minimum(x, 0) - log1p(exp(-modulus(x)))
