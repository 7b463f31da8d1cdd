"""The denominator of mLSTM, max(|q·n|, e^−m) + eps, and its gradient, which is never dropped.

Derived in ``docs/derivations/mlstm.md``, whose tags are cited here.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.numerics import Array, maximum
from numpy_xlstm.numerics.activations import minimum, modulus


class Denominator(NamedTuple):
    """The denominator, and what its backward needs; every array has the shape of q·n."""

    value: Array
    qn: Array
    floor: Array
    """e^−m."""
    eps: float
    m: Array

    @property
    def active(self) -> Array:
        """Whether |q·n| is the larger argument, or a tie."""
        active: Array = modulus(self.qn).real >= self.floor.real
        return active

    @property
    def sign(self) -> Array:
        """Sign of q·n where that is :attr:`active`, 0 where e^−m is."""
        sign: Array = np.sign(self.qn.real)
        sign *= self.active
        return sign

    @property
    def residual(self) -> Array | None:
        """Share of h that a change of gauge does change, eps / denominator; None if that is 0."""
        low, high = _bounds(self.m.dtype)
        clipped = (self.m.real < low) | (self.m.real > high)
        if clipped.any():
            return np.where(clipped & ~self.active, 1, self.eps / self.value)
        return self.eps / self.value if self.eps else None


def denominator(qn: Array, m: Array, eps: float) -> Denominator:
    """Form max(|q·n|, e^−m) + eps  [mlstm.9].

    e^−m is kept between two bounds, so that neither it nor a quotient by it can overflow for any m.
    That changes h only where |q·n| and e^−m are both below 1/√(largest number) and eps is 0.
    """
    low, high = _bounds(m.dtype)
    floor = np.exp(-minimum(maximum(m, low), high))
    value = maximum(modulus(qn), floor)
    value += eps
    return Denominator(value, qn, floor, eps, m)


@cache
def _bounds(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Where −m is so large that e^−m overflows, and m so large that 1 / e^−m squared would."""
    largest = np.log(np.finfo(dtype).max)
    return 2 - largest, largest / 2
