"""Arrays of 16-bit floats, which matrices of a loaded model may keep."""

import numpy as np

from numpy_xlstm.numerics.arrays import Array, check_array

EXPONENTS = {"bfloat16": np.uint16(0x7F80), "float16": np.uint16(0x7C00)}
"""Bits of the exponent, all of which are set in infinity and NaN."""

CHUNK = 2**20
"""Count of numbers that are checked at a time."""


def is_narrow(array: Array) -> bool:
    """Return whether an array has 16-bit floats."""
    return array.itemsize == 2 and array.dtype.name in EXPONENTS


def check_parameter(name: str, array: Array, like: Array) -> None:
    """Do the same as ``check_array``, but accept 16-bit floats in place of such ones."""
    if type(array) is not np.ndarray or not is_narrow(array) or array.dtype != like.dtype:
        check_array(name, array, like.shape)
        return
    bits, exponent = array.reshape(-1).view(np.uint16), EXPONENTS[array.dtype.name]
    parts = (bits[start : start + CHUNK] & exponent for start in range(0, bits.size, CHUNK))
    if any(part.max() == exponent for part in parts):
        check_array(name, array.astype(np.float32), like.shape)
