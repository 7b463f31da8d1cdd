"""Derivatives of a scalar function along a direction, found without any backward.

Complex step: f′(0) = Im f(ih)/h for analytic f. There is no difference and so no cancellation, and
h can be so small that its square vanishes (Squire & Trapp, SIAM Review 40, 1998).

Central differences D(h) = (f(h) − f(−h))/2h with one Richardson extrapolation,
(4 D(h/2) − D(h))/3: truncation error O(h⁴), rounding error O(ε/h), best at h ≈ ε^(1/5).
"""

from collections.abc import Callable
from typing import NamedTuple

COMPLEX_STEP = 1e-100
DIFFERENCE_STEP = 7e-4
SHRINK, SHRINKS = 8.0, 5
"""How a step is shortened, and how often, where a difference contradicts what is claimed."""

Scalar = Callable[[complex], complex]


def complex_step(f: Scalar) -> float:
    """Im f(ih)/h."""
    return float(f(1j * COMPLEX_STEP).imag / COMPLEX_STEP)


class Stencil(NamedTuple):
    """What a function does around 0, seen with one step: slopes, and how far to trust them."""

    slope: float
    """The central difference, extrapolated."""
    left: float
    right: float
    """One-sided differences with half the step."""
    noise: float
    """What rounding may have done to them."""
    correction: float
    """By how much the extrapolation changed the slope: its truncation error."""
    wide_jump: float
    """By how much one-sided differences with the whole step differ."""

    @property
    def error(self) -> float:
        """How wrong the slope may be by its own account."""
        return self.correction + 16 * self.noise

    @property
    def jump(self) -> float:
        """By how much the one-sided differences differ: ∝ step if smooth, constant at a kink."""
        return abs(self.right - self.left)

    @property
    def smooth(self) -> bool:
        """Whether the jump shrinks with the step, as far as one can see above the rounding."""
        return self.jump <= max(0.7 * self.wide_jump, 16 * self.noise)


def noise(rounding: float, step: float = DIFFERENCE_STEP) -> float:
    """What rounding does to a difference, if it does so much to one value."""
    return 8 * rounding / step


def stencil(f: Scalar, rounding: float, step: float = DIFFERENCE_STEP) -> Stencil:
    """Evaluate ``f`` at 0, ±step/2 and ±step; ``rounding`` bounds the error of one value."""
    far_left, left, middle, right, far_right = (f(s * step).real for s in (-1, -0.5, 0, 0.5, 1))
    wide, narrow = (far_right - far_left) / (2 * step), (right - left) / step
    slope = float((4 * narrow - wide) / 3)
    return Stencil(
        slope,
        float((middle - left) / (step / 2)),
        float((right - middle) / (step / 2)),
        noise(rounding, step),
        abs(slope - float(narrow)),
        float(abs(far_right - 2 * middle + far_left) / step),
    )


def best(seen: list[Stencil]) -> Stencil:
    """The stencil with the least error, of those too short to reach the kinks of longer ones."""
    reached = max((n for n, stencil in enumerate(seen) if not stencil.smooth), default=-1)
    return min(seen[reached + 1 :] or seen[-1:], key=lambda stencil: stencil.error)


def at_kink(seen: list[Stencil], claimed: float, tolerance: float) -> bool:
    """Tell whether a kink that was seen excuses that differences contradict the claimed derivative.

    A kink (|·| at 0, a tie of a maximum) inside of the step makes a difference wrong. The jump
    between the one-sided slopes shrinks with the step where the function is smooth, and stays at a
    kink. If a shorter step leaves the kink outside, the claim must agree with that step, as far as
    rounding lets one see. If not even the shortest does, it must lie between the one-sided slopes.
    """
    chosen, last = best(seen), seen[-1]
    if chosen.smooth:
        return abs(claimed - chosen.slope) <= tolerance + chosen.error
    low, high = sorted((last.left, last.right))
    slack = tolerance + last.noise + last.jump / SHRINK
    return low - slack <= claimed <= high + slack
