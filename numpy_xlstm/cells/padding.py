"""Batches of sequences of different lengths: which steps are padding."""

import numpy as np

from numpy_xlstm.errors import DTypeError, OptionError, ShapeError
from numpy_xlstm.numerics import Array


def check_lengths(lengths: Array, B: int, T: int) -> Array:
    """Return the lengths as integers (B,), or raise an error that says what they should be."""
    try:
        array = np.asarray(lengths)
    except ValueError as error:  # a ragged list
        raise ShapeError(f"lengths: expected shape ({B},); got {lengths!r}") from error
    if array.shape != (B,):
        raise ShapeError(f"lengths: expected shape ({B},), one per batch row; got {array.shape}")
    if array.dtype.kind not in "iu":
        raise DTypeError(f"lengths: expected integers; got {array.dtype}")
    if array.min() < 0 or array.max() > T:
        raise OptionError(f"lengths: expected integers from 0 to T = {T}; got {array.tolist()}")
    return array.astype(np.int64)


def padding(lengths: Array, T: int) -> Array:
    """True at steps that are not there, shape (T, B)."""
    mask: Array = np.arange(T)[:, None] >= lengths
    return mask


def without_padding(array: Array, padding: Array | None) -> Array:
    """The array with 0 at padding, which has its leading axes."""
    if padding is None:
        return array
    return np.where(padding.reshape(*padding.shape, *[1] * (array.ndim - padding.ndim)), 0, array)
