"""What kernels have in common: threads, heads, padding and residuals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numpy_xlstm.errors import CacheError
from numpy_xlstm.kernels.functions import compiled
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread

WORTH_THREADS = 2**18
"""Least size of pre-activations, or of q and v, at which several threads are faster."""


def for_each(loop: Callable[..., None], indices: Sequence[Any], size: int, *arrays: Any) -> None:
    """Call a loop with each index and the arrays, on several threads if ``size`` is large."""
    if size < WORTH_THREADS:
        for n in indices:
            loop(n, *arrays)
    else:
        parallel_map(lambda n: loop(n, *arrays), indices)


def over_heads(loop: Any, size: int, *arrays: Any) -> None:
    """Run a kernel on each of N heads if it is compiled, otherwise on slices of them."""
    N = len(arrays[0])
    if compiled(arrays[0].dtype):
        for_each(loop, range(N), size, *arrays)
    else:
        slices = spread(N, num_threads() if size >= WORTH_THREADS else 1)
        for_each(loop.__wrapped__, slices, size, *arrays)


def for_loops(array: Array) -> Array:
    """Return an array in C-order, aligned and writable: loops are compiled for no other kind."""
    return array if array.flags.carray else array.copy()


def check_residual(name: str, array: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise :class:`CacheError` for residuals that do not fit the other arguments.

    A compiled loop does not check its indices and would read outside of an array that is too small.
    """
    if getattr(array, "shape", None) != shape or array.dtype != dtype:
        got = f"{getattr(array, 'shape', None)} and {getattr(array, 'dtype', type(array))}"
        raise CacheError(f"cache: expected {name} of shape {shape} and {dtype}; got {got}")


def split_heads(x: Array, NH: int) -> Array:
    """Return a view of x (..., B, NH·n) as (..., NH, B, n)."""
    return x.reshape(*x.shape[:-1], NH, x.shape[-1] // NH).swapaxes(-3, -2)


def join_heads(x: Array) -> Array:
    """Return x (..., NH, B, n) as (..., B, NH·n); the inverse of :func:`split_heads`."""
    *lead, NH, B, n = x.shape
    return x.swapaxes(-3, -2).reshape(*lead, B, NH * n)


def padding(lengths: Array, T: int) -> Array:
    """Return a mask of padding, (B, T)."""
    behind: Array = np.arange(T) >= lengths[:, None]
    return behind
