"""What kernels have in common: threads, heads, padding and residuals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_xlstm.errors import CacheError
from numpy_xlstm.kernels.functions import compiled
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread
from numpy_xlstm.validation import check_cache

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


@dataclass(frozen=True, slots=True, eq=False)
class FunctionCache:
    """Residuals that a public function keeps for its backward.

    They cannot be replaced: a compiled loop does not check its indices, and would read outside of
    other arrays.
    """

    cell: str
    kept: Any

    @staticmethod
    def checked(cache: Any, cell: str) -> Any:
        """Return the residuals, or raise an error unless a function of this cell made the cache."""
        check_cache(cache, FunctionCache)
        if cache.cell != cell:
            raise CacheError(f"cache: expected one of the {cell}; got one of the {cache.cell}")
        return cache.kept


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
