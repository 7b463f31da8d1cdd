"""Derivatives of a scalar function along a direction, found without any backward.

Complex step: f′(0) = Im f(ih)/h for analytic f. There is no difference and so no cancellation, and
h can be so small that its square vanishes (Squire & Trapp, SIAM Review 40, 1998).

Central differences D(h) = (f(h) − f(−h))/2h with one Richardson extrapolation,
(4 D(h/2) − D(h))/3: truncation error O(h⁴), rounding error O(ε/h), best at h ≈ ε^(1/5).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

COMPLEX_STEP = 1e-100
DIFFERENCE_STEP = 7e-4
SHRINK, SHRINKS = 8.0, 3
"""How a step is shortened, and how often, where a difference contradicts what is claimed."""

Scalar = Callable[[complex], complex]


def complex_step(f: Scalar) -> float:
    """Im f(ih)/h."""
    return float(f(1j * COMPLEX_STEP).imag / COMPLEX_STEP)


class Stencil(NamedTuple):
    """What a function does around 0, seen with one step."""

    slope: float
    """Central difference, extrapolated."""
    left: float
    right: float
    """One-sided differences, with half the step."""
    noise: float
    """What rounding may have done to the differences."""

    @property
    def jump(self) -> float:
        """By how much the one-sided differences differ: ∝ step if smooth, constant at a kink."""
        return abs(self.right - self.left)


def stencil(f: Scalar, rounding: float, step: float = DIFFERENCE_STEP) -> Stencil:
    """Evaluate ``f`` at 0, ±step/2 and ±step; ``rounding`` bounds the error of one value."""
    far_left, left, middle, right, far_right = (f(s * step).real for s in (-1, -0.5, 0, 0.5, 1))
    wide, narrow = (far_right - far_left) / (2 * step), (right - left) / step
    return Stencil(
        float((4 * narrow - wide) / 3),
        float((middle - left) / (step / 2)),
        float((right - middle) / (step / 2)),
        8 * rounding / step,
    )


def at_kink(f: Scalar, claimed: float, tolerance: float, rounding: float) -> bool:
    """Tell whether a kink excuses that differences contradict the claimed derivative.

    A kink (|·| at 0, a tie of a maximum) inside of the step makes a difference wrong. As the step
    is shortened, the jump between the one-sided slopes shrinks in proportion where the function is
    smooth. At a kink it stays; once the step no longer reaches the kink it collapses. The claim is
    excused only in the latter two cases, and only if it lies between the one-sided slopes.
    """
    steps = [DIFFERENCE_STEP / SHRINK**n for n in range(SHRINKS + 1)]
    seen = [stencil(f, rounding, step) for step in steps]
    return any(
        _not_smooth(wider, narrower) and _between(narrower, claimed, tolerance)
        for wider, narrower in pairwise(seen)
    )


def _not_smooth(wider: Stencil, narrower: Stencil) -> bool:
    stays = narrower.jump > max(wider.jump / 4, narrower.noise)
    collapses = narrower.jump + narrower.noise < wider.jump / (2 * SHRINK)
    return stays or (collapses and wider.jump > wider.noise)


def _between(at: Stencil, claimed: float, tolerance: float) -> bool:
    low, high = sorted((at.left, at.right))
    slack = tolerance + at.noise + at.jump / SHRINK
    return low - slack <= claimed <= high + slack
