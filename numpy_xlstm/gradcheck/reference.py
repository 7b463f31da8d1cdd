"""Derivatives of a scalar function along a direction, found without any backward.

Complex step: f′(0) = Im f(ih)/h for analytic f. There is no difference and so no cancellation, and
h can be so small that its square vanishes (Squire & Trapp, SIAM Review 40, 1998).

Central differences D(h) = (f(h) − f(−h))/2h with one Richardson extrapolation,
(4 D(h/2) − D(h))/3: truncation error O(h⁴), rounding error O(ε/h), best at h ≈ ε^(1/5).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

COMPLEX_STEP = 1e-100
DIFFERENCE_STEP, SHRINK = 2.0**-11, 8.0
"""The step of a difference, and how it is shortened. These are powers of two, so that x ± h is
exact for a large x as well."""
SHRINKS = 5
"""How often a step is shortened where a difference contradicts the claim; twice as often where the
function is not finite."""

Scalar = Callable[[complex], complex]


def complex_step(f: Scalar, side: float = 1.0) -> float:
    """Im f(ih)/h; with −h for the side −1."""
    return float(f(1j * side * COMPLEX_STEP).imag / (side * COMPLEX_STEP))


class Stencil(NamedTuple):
    """What a function does around 0, seen with one step: slopes, and how far to trust them."""

    step: float
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
        step,
        slope,
        float((middle - left) / (step / 2)),
        float((right - middle) / (step / 2)),
        noise(rounding, step),
        abs(slope - float(narrow)),
        float(abs(far_right - 2 * middle + far_left) / step),
    )


def difference(f: Scalar, rounding: float) -> Stencil:
    """Take the longest step with which the function stays finite; NaN if there is none."""
    for n in range(2 * SHRINKS + 1):
        seen = stencil(f, rounding, DIFFERENCE_STEP / SHRINK**n)
        if math.isfinite(seen.slope):
            break
    return seen


def settle(
    f: Scalar,
    claimed: float,
    tolerance: float,
    rounding: float,
    *,
    longest: float,
    analytic: bool,
    many: bool,
) -> tuple[float, bool]:
    """Look closer where a difference contradicts the claim: a better reference, or a kink.

    A kink (|·| at 0, a tie of a maximum) inside of the step makes a difference wrong. If a shorter
    step leaves it outside, the claim must agree with that step, as far as rounding lets one see. If
    not even the shortest does, it must lie between the one-sided slopes. Where several kinks lie
    close by, no difference sees the branch that the forward takes: on a line through ``many``
    entries, no claim is judged then. The complex step sees it, if the function is ``analytic``: a
    claim that agrees with it is at a kink, too. ``longest`` is the first step. It is shorter near
    the edge of a domain, which is judged like a kink.
    """
    seen: list[Stencil] = []
    reached = 0  # how many of the stencils reach a kink
    for n in range(SHRINKS + 1):
        seen.append(stencil(f, rounding, longest / SHRINK**n))
        reached = reached if seen[n].smooth else n + 1
        best = min(seen[reached:] or seen[-1:], key=lambda stencil: stencil.error)
        distance = abs(claimed - best.slope)
        if best.smooth and distance <= tolerance:
            return best.slope, False
    if not reached and longest == DIFFERENCE_STEP:
        return best.slope, False
    if best.smooth:
        kink = distance <= tolerance + best.error
    else:
        low, high = sorted((best.left, best.right))
        slack = tolerance + best.noise + best.jump / SHRINK
        kink = many or low - slack <= claimed <= high + slack
    if analytic and not kink:
        side, _ = settle_sides(f, claimed, tolerance, many=many)
        kink = abs(claimed - side) <= tolerance
    return best.slope, kink


def settle_sides(f: Scalar, claimed: float, tolerance: float, *, many: bool) -> tuple[float, bool]:
    """Look at both sides where the complex step contradicts the claim: the nearer, or a kink.

    NumPy orders complex numbers of equal real parts by their imaginary parts. At an exact tie of a
    comparison, a maximum or a clip, the sign of the step therefore decides which branch is taken,
    whichever the forward takes. The claim must agree with one side, or lie between the two. A line
    through ``many`` entries may cross several ties, each with a branch of its own: no other claim
    is judged there.
    """
    low, high = sorted((complex_step(f), complex_step(f, -1)))
    nearer = low if abs(claimed - low) < abs(claimed - high) else high
    tie = high - low > tolerance and abs(claimed - nearer) > tolerance
    return nearer, tie and (many or low < claimed < high)
