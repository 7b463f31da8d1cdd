"""Independent parts of a sequence: their layout for :mod:`~numpy_xlstm.kernels.scan`, and threads.

Heads, and rows of a batch, are independent of each other. The work is therefore split into N parts.
A part is one of the NH heads for r rows, and has U = D·r numbers: for each of the head's D units,
the numbers of its r rows are contiguous. In this order a step multiplies R by a matrix (D, r),
which is faster than a matrix (r, D) times Rᵀ.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numpy_xlstm.errors import CacheError
from numpy_xlstm.kernels.functions import compiled
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread

ROWS = 16
"""Largest number of rows in a part of a batch that is split. A batch is not split into parts of
fewer than half as many rows, because their product with R is slow."""

WORTH_THREADS = 2**18
"""Smallest number of gates, or of entries of q and v, at which several threads are faster."""

BLOCK = 2**16
"""Number of entries (units times steps) that NumPy copies at once, or whose derivatives it computes
at once. They fit into the cache."""


def for_each_part(loop: Callable[..., None], parts: Sequence[Any], size: int, *arrays: Any) -> None:
    """Call a loop with each part and the arrays, on several threads if ``size`` is large."""
    if size < WORTH_THREADS:
        for n in parts:
            loop(n, *arrays)
    else:
        parallel_map(lambda n: loop(n, *arrays), parts)


def over_heads(loop: Any, size: int, *arrays: Any) -> None:
    """Run a kernel on each of N heads if it is compiled, otherwise on slices of them."""
    N = len(arrays[0])
    if compiled(arrays[0].dtype):
        for_each_part(loop, range(N), size, *arrays)
    else:
        slices = spread(N, num_threads() if size >= WORTH_THREADS else 1)
        for_each_part(loop.__wrapped__, slices, size, *arrays)


def groups(B: int, gates: Array) -> int:
    """Return the number of groups of rows. It does not depend on the number of threads."""
    if gates.size < WORTH_THREADS or not compiled(gates.dtype):
        return 1
    return next((B // r for r in range(ROWS, ROWS // 2 - 1, -1) if B % r == 0), 1)


def for_loops(array: Array) -> Array:
    """Return an array in C-order, aligned and writable: loops are compiled for no other kind."""
    return array if array.flags.carray else array.copy()


def by_part(array: Array, R: Array, P: int) -> Array:
    """Return (B, T, X·H) as (T, N, X, U), with P groups of rows."""
    (B, T, width), (NH, _, D) = array.shape, R.shape
    X, r = width // (NH * D), B // P
    parts = array.reshape(P, r, T, X, NH, D).transpose(2, 4, 0, 3, 5, 1)
    return for_loops(parts).reshape(T, NH * P, X, D * r)


def by_row(array: Array, R: Array, B: int) -> Array:
    """Copy (T, N, X, U), or (T, N, U), to (B, T, X·H)."""
    (T, N), (NH, _, D) = array.shape[:2], R.shape
    P, X = N // NH, 1 if array.ndim == 3 else array.shape[2]
    parts = array.reshape(T, NH, P, X, D, B // P).transpose(2, 5, 0, 3, 1, 4)
    if array.size <= BLOCK:
        return np.array(parts, order="C").reshape(B, T, X * NH * D)
    rows = np.empty(parts.shape, array.dtype)
    for steps in spread(T, array.size // BLOCK):  # what fits into the cache is copied much faster
        rows[:, :, steps] = parts[:, :, steps]
    return rows.reshape(B, T, X * NH * D)


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
