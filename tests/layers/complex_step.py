"""Derivatives of real-valued functions by a complex step, exact up to rounding."""

from collections.abc import Callable
from typing import Any

import numpy as np

from numpy_xlstm.numerics import Array

STEP = 1e-30


def gradient(function: Callable[[Array], Any], x: Array) -> Array:
    """Compute the gradient of a scalar function at x, entry by entry."""
    result = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        moved = x.astype(np.complex128)
        moved[index] += STEP * 1j
        result[index] = np.imag(function(moved)) / STEP
    return result


def assert_close(got: Array, expected: Array, tolerance: float = 1e-12) -> None:
    """Compare with an error relative to the largest entry; NaN fails."""
    assert got.shape == expected.shape
    if expected.size:
        assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()
