"""Where arrays lie: which share memory, and which part of it a view is of."""

from typing import Any

import numpy as np

from numpy_xlstm.numerics import Array


def owner(array: Array) -> Array:
    """The array that an array is a view of, or itself."""
    base = array.base
    while base is not None:
        if isinstance(base, np.ndarray):
            array = base
        base = getattr(base, "base", None)  # that of as_strided is no array, but has a base
    return array


def is_whole(array: Array) -> bool:
    """Whether an array has all of its memory, in order, and for itself."""
    whole = owner(array)
    return (
        bool(array.flags.c_contiguous and whole.flags.c_contiguous) and array.nbytes == whole.nbytes
    )


def shares(a: Array, b: Any) -> bool:
    """Whether an array may share memory with what is perhaps another."""
    return isinstance(b, np.ndarray) and np.may_share_memory(a, b)


def same_place(a: Array, b: Array) -> bool:
    """Whether both are the same numbers in memory, as after ``x[i] += y``, which assigns x[i]."""
    first, second = a.__array_interface__, b.__array_interface__
    return all(first[key] == second[key] for key in ("data", "shape", "strides", "typestr"))


def offset(array: Array) -> int:
    """How many entries after the first of its owner an array begins."""
    return _bytes_before(array) // max(1, array.itemsize)


def strides(array: Array) -> tuple[int, ...] | None:
    """Entries from one to the next along each axis; None if they follow from the shape."""
    if array.flags.c_contiguous:
        return None
    return tuple(step // array.itemsize for step in array.strides)


def at_the_same_place(array: Array, of: Array) -> Array:
    """The view of an array that lies in it as ``array`` lies in its owner."""
    return np.ndarray(array.shape, array.dtype, of, _bytes_before(array), array.strides)


def _bytes_before(array: Array) -> int:
    """Bytes from the first of the owner to the first of the array."""
    start, first = (one.__array_interface__["data"][0] for one in (array, owner(array)))
    return int(start - first)
