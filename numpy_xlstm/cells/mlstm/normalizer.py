"""The denominator of mLSTM, max(|q·n|, e^−m) + eps, and its gradient, which is never dropped.

Derived in ``docs/derivations/mlstm.md``, whose tags are cited here.
"""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.numerics import Array, maximum


class Denominator(NamedTuple):
    """The denominator, and what its backward needs; every array has the shape of q·n."""

    value: Array
    sign: Array
    """Sign of q·n where |q·n| is the larger argument or a tie, 0 where e^−m is."""
    residual: Array | None
    """Share of h that a change of gauge does change, eps / denominator; None if that is 0."""


def denominator(qn: Array, m: Array, eps: float) -> Denominator:
    """Form max(|q·n|, e^−m) + eps  [mlstm.9].

    e^−m is kept between two bounds, so that neither it nor a quotient by it can overflow for any m.
    That changes h only where |q·n| and e^−m are both below 1/√(largest number) and eps is 0.
    """
    low, high = _bounds(m.dtype)
    clipped = (m.real < low) | (m.real > high)
    floor = np.exp(-np.where(clipped, np.clip(m.real, low, high), m))
    sign = np.sign(qn.real)
    size = sign * qn
    active = size.real >= floor.real
    larger = maximum(size, floor)
    value = larger + eps
    residual = None
    if eps or clipped.any():
        residual = np.where(clipped & ~active, 1, eps / value)
    return Denominator(value, np.where(active, sign, 0), residual)


def _bounds(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Where −m is so large that e^−m overflows, and m so large that 1 / e^−m squared would."""
    largest = np.log(np.finfo(dtype).max)
    return 2 - largest, largest / 2
