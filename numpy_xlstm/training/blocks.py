"""Work on all parameters, block by block: each fits the cache, and several cores share them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from numpy_xlstm.errors import DTypeError
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread

BLOCK = 2**16
"""How many numbers a block has."""

WORTH_THREADS = 2**20
"""Numbers from which on several threads are faster than one."""

Result = TypeVar("Result")


def check_floats(name: str, array: Any) -> None:
    """Raise :class:`DTypeError` unless ``array`` is one of real floating-point numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        got = getattr(array, "dtype", type(array).__name__)
        raise DTypeError(f"{name}: expected an array of floating-point numbers; got {got}")


def each_block(
    work: Callable[..., Result], arrays: Mapping[str, tuple[Array, ...]]
) -> list[Result]:
    """Call ``work`` with the name and the blocks of arrays of one shape, for all of them.

    The blocks are the same, and the results in the same order, for any number of threads.
    """
    jobs = [(name, *block) for name, same in arrays.items() for block in _blocks(same)]
    size = sum(same[0].size for same in arrays.values())
    parts = spread(len(jobs), num_threads() if size >= WORTH_THREADS else 1)
    found = parallel_map(lambda part: [work(*job) for job in jobs[part]], parts)
    return [result for results in found for result in results]


def _blocks(arrays: tuple[Array, ...]) -> Iterator[tuple[Array, ...]]:
    """Views of arrays of one shape; whole if they cannot be cut alike."""
    if not all(array.flags.c_contiguous for array in arrays):
        yield arrays
        return
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield tuple(array[start : start + BLOCK] for array in flat)


def sum_of_squares(array: Array, dtype: Any = None) -> Any:
    """Sum of the squares, without a warning where it overflows.

    Not by BLAS, whose threads go on looking for work for a while: it would take the cores from
    those who have some.
    """
    flat = array.reshape(-1).astype(dtype or array.dtype, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.einsum("i,i->", flat, flat)
