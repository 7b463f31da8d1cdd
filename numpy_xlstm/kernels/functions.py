"""Elementary functions of kernels, usable both on arrays and in compiled loops.

Called from Python, they are NumPy functions of arrays of any dtype, real or complex. In a compiled
kernel they are functions of one number, like each function marked by :func:`pointwise`. As in
NumPy, a literal in a compiled kernel does not widen other operands: ``1 / (1 + exp(-x))`` of a
float32 is a float32.

The first call of a kernel imports numba, and compiles the kernel or loads it from disk.
"""

import os
from collections.abc import Callable
from functools import cache, wraps
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from numpy_xlstm.numerics import activations

Function = TypeVar("Function", bound=Callable[..., Any])

_marked: list[tuple[Callable[..., Any], Callable[..., Any], str]] = []
"""Functions to register with numba: name in kernels, function to compile, name of options."""

_registering = Lock()

COMPILED_DTYPES = {np.dtype(np.float32), np.dtype(np.float64)}


def pointwise(function: Function) -> Function:
    """Mark a function of numbers, which compiled kernels inline."""
    _marked.append((function, function, "inlined"))
    return function


def kernel(function: Function, options: str = "kernel") -> Function:
    """Compile a loop over float32 or float64 arrays at its first call.

    ``options`` is the name of the options of the compiler.
    """

    @wraps(function)
    def run(*args: Any) -> Any:
        return _dispatcher(function, options)(*args)

    _marked.append((run, function, options))
    return run  # type: ignore[return-value]


def summation(function: Function) -> Function:
    """Do the same as :func:`kernel` for a loop whose sums may be computed in any order.

    The order is the processor's: an instruction adds to several partial sums.
    """
    return kernel(function, "summation")


def loops(name: Callable[..., Any]) -> Callable[[Function], Function]:
    """Mark loops that compiled kernels run instead of ``name``, a function of arrays."""

    def mark(function: Function) -> Function:
        _marked.append((name, function, "kernel"))
        return function

    return mark


def compiled(dtype: Any = np.float64) -> bool:
    """Return whether kernels for this dtype are compiled.

    Those for float32 and float64 are compiled if numba is installed and supports this NumPy.
    The environment variable ``NUMPY_XLSTM_COMPILED=0`` disables compilation. It is read once, at
    the first call.
    """
    return np.dtype(dtype) in COMPILED_DTYPES and compiles()


@cache
def compiles() -> bool:
    """Return whether kernels are compiled in this process."""
    if os.environ.get("NUMPY_XLSTM_COMPILED") == "0":
        return False
    try:
        from numba import config
    except ImportError:
        return False
    return not config.DISABLE_JIT


@cache
def _dispatcher(function: Callable[..., Any], options: str) -> Callable[..., Any]:
    """Return numba's dispatcher of a kernel, or the kernel itself if nothing is compiled."""
    if not compiled():
        return function
    with _registering:
        from numpy_xlstm.kernels import compiler, elementary

        while elementary.IMPLEMENTATIONS:
            name, implementation = elementary.IMPLEMENTATIONS.popitem()
            compiler.implements(globals()[name])(implementation)
        while _marked:
            compiler.register(*_marked.pop())
        return compiler.dispatcher(function, options)


def tanh(x: Any) -> Any:
    """Return tanh(x)."""
    return np.tanh(x)


# Functions that the cells use too.
exp, log1p = activations.exp, activations.log1p
maximum: Any = activations.maximum
minimum: Any = activations.minimum
modulus: Any = activations.modulus
tanh_slope, log_sigmoid = pointwise(activations.tanh_slope), pointwise(activations.log_sigmoid)


def where(condition: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where the condition is true, else ``b``; callers compare real parts."""
    return np.where(condition, a, b)


def entries(array: Any, rows: Any, n: Any, j: Any) -> Any:
    """Return array[row, n, j] for some rows, as a tuple."""
    return tuple(array[row, n, j] for row in rows)


def set_entries(array: Any, rows: Any, n: Any, j: Any, numbers: Any) -> None:
    """Write numbers as array[row, n, j] for some rows."""
    for row, number in zip(rows, numbers, strict=True):
        array[row, n, j] = number


def packed(M: Any, transposed: Any) -> Any:
    """Return matrices (heads, K, N), or (heads, N, K), as :func:`multiply` reads them."""
    raise NotImplementedError  # compiled kernels call functions of tiles.py


def multiply(x: Any, panels: Any, N: Any, out: Any) -> None:
    """Write x_n M_n for each head n into out, for x (r, heads·K) and packed matrices M.

    out is (r, heads·N + W) with panels of W columns: its last columns get any numbers.
    """
    raise NotImplementedError


@pointwise
def sigmoid(x: Any) -> Any:
    """Return σ(x) = 1 / (1 + e^−x), accurate in both tails."""
    e = exp(-modulus(x))
    return where(x.real >= 0, 1, e) / (1 + e)


@pointwise
def sigmoid_and_slope(x: Any) -> Any:
    """Return σ(x) and σ′(x) = σ(x) σ(−x), accurate in both tails."""
    e = exp(-modulus(x))
    s = 1 / (1 + e)
    return where(x.real >= 0, s, e * s), e * s * s
