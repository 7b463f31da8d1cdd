"""Validation of arrays of class or token ids."""

from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import DTypeError, ShapeError
from numpy_xlstm.numerics import check_plain

IndexArray = npt.NDArray[np.integer[Any]]
"""An array of integers, each of which is the index of a row or class."""


def check_sequence(name: str, value: Any) -> IndexArray:
    """Return ``value`` if it is an array of ids of shape (N,), else raise an error."""
    _check_integers(name, value)
    if value.ndim != 1:
        raise ShapeError(f"{name}: expected shape (N,); got {value.shape}")
    ids: IndexArray = value
    return ids


def check_indices(
    name: str,
    value: Any,
    size: int,
    *,
    shape: tuple[int, ...] | None = None,
    except_for: int | None = None,
) -> IndexArray:
    """Return ``value`` if its ids are from 0 to ``size − 1``, or ``except_for``, else raise."""
    _check_integers(name, value)
    if shape is not None and value.shape != shape:
        raise ShapeError(f"{name}: expected shape {shape}; got {value.shape}")
    outside = (value < 0) | (value >= size)
    if except_for is not None:
        outside &= value != except_for
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise IndexError(
            f"{name}: expected ids from 0 to {size - 1}; got {value[where]} at index {where}"
        )
    ids: IndexArray = value
    return ids


def _check_integers(name: str, value: Any) -> None:
    check_plain(name, value)
    if not isinstance(value, np.ndarray):
        raise DTypeError(f"{name}: expected a NumPy array of integers; got {type(value).__name__}")
    if value.dtype.kind not in "iu":
        raise DTypeError(f"{name}: expected an array of integers; got {value.dtype.name}")
