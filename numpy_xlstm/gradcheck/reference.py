"""A function near one point, and its derivatives along a direction, computed without a backward.

Complex step: f′(0) = Im f(ih)/h for analytic f. There is no difference and therefore no
cancellation, and h can be so small that its square vanishes (Squire & Trapp, SIAM Review 40, 1998).

Central differences D(h) = (f(h) − f(−h))/2h with one Richardson extrapolation,
(4 D(h/2) − D(h))/3: truncation error O(h⁴), rounding error O(ε/h), best at h ≈ ε^(1/5).
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from numpy_xlstm.gradcheck.problem import Problem
from numpy_xlstm.gradcheck.report import Index
from numpy_xlstm.gradcheck.target import Arrays, copies, is_floating
from numpy_xlstm.numerics import Array

COMPLEX_STEP = 1e-100
DIFFERENCE_STEP, SHRINK = 2.0**-11, 8.0
"""Step of a difference, and factor by which it is shortened. These are powers of two, so that x ± h
is exact also for a large x."""
SHRINKS = 5
"""Number of times that a step is shortened if a difference contradicts the claim, the slope from
the backward; twice this number if the function is not finite."""

Scalar = Callable[[complex], complex]


def complex_step(f: Scalar, side: float = 1.0) -> float:
    """Return Im f(ih)/h, with −h for the side −1."""
    return float(f(1j * side * COMPLEX_STEP).imag / (side * COMPLEX_STEP))


class Stencil(NamedTuple):
    """Slopes of a function at 0 for one step, and estimates of their errors."""

    step: float
    slope: float
    """Extrapolated central difference."""
    left: float
    right: float
    """One-sided differences with half the step."""
    noise: float
    """Bound on their rounding errors."""
    correction: float
    """Change of the slope by extrapolation, an estimate of the truncation error."""
    wide_jump: float
    """Difference between the one-sided differences with the whole step."""

    @property
    def error(self) -> float:
        """Estimated error of the slope."""
        return self.correction + 16 * self.noise

    @property
    def jump(self) -> float:
        """Difference between the one-sided differences: ∝ step if smooth, constant at a kink."""
        return abs(self.right - self.left)

    @property
    def smooth(self) -> bool:
        """Whether the jump shrinks with the step, or is within rounding errors."""
        return self.jump <= max(0.7 * self.wide_jump, 16 * self.noise)


def noise(rounding: float, step: float = DIFFERENCE_STEP) -> float:
    """Return the rounding error of a difference, given that of one value."""
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
    """Return the stencil of the longest step for which it is finite; NaN if there is none."""
    for n in range(2 * SHRINKS + 1):
        seen = stencil(f, rounding, DIFFERENCE_STEP / SHRINK**n)
        if math.isfinite(seen.slope):
            break
    return seen


NOT_ANALYTIC = "np.abs, np.sign, np.linalg.norm, x.var(), x.std(), conj and .real"


class Point:
    """⟨ȳ, outputs⟩ as a function of all tensors, and the gradients from the backward.

    References are evaluated at ``tensors``, in float64 or better, where ``rounding`` bounds the
    error of one value of the function. ``why_no_complex`` is empty if the forward supports complex
    numbers, and otherwise the reason.
    """

    def __init__(
        self, problem: Problem, rng: np.random.Generator, max_entries: int, directions: int
    ) -> None:
        self.problem, self.rng = problem, rng
        self.max_entries, self.directions = max_entries, directions
        self.cotangents = self.random_cotangents()
        self.gradients = copies(problem.backward(self.cotangents))
        precise = np.longdouble if problem.dtype == np.longdouble else np.float64
        self.tensors: Arrays = {n: array.astype(precise) for n, array in problem.tensors.items()}
        size_of_terms = np.abs(self.paired(problem.outputs)).sum()
        self.rounding = float(4 * np.finfo(precise).eps * size_of_terms)
        self.why_no_complex = self._why_no_complex()

    def random_cotangents(self) -> Arrays:
        """Draw normal cotangents of all outputs, with zeros where an output is −inf."""
        return {
            name: np.where(a == -np.inf, 0, self.rng.standard_normal(a.shape)).astype(a.dtype)
            for name, a in self.problem.outputs.items()
        }

    def along(self, directions: Arrays) -> Scalar:
        """Restrict the function to a line through the point; NaN if a real step is rounded away."""
        lost = any(
            (np.spacing(np.abs(self.tensors[name][direction != 0])) > DIFFERENCE_STEP / 32).any()
            for name, direction in directions.items()
        )

        def f(step: complex) -> complex:
            if lost and not step.imag:
                return np.nan
            moved = {
                name: self.tensors[name] + np.where(direction == 0, 0, step * direction)
                for name, direction in directions.items()
            }
            dtype = np.clongdouble if self.problem.dtype == np.longdouble else np.complex128
            tensors = self.tensors | moved
            if isinstance(step, complex):
                tensors = {name: array.astype(dtype) for name, array in tensors.items()}
            with np.errstate(all="ignore"):
                return complex(self.paired(self.problem.evaluate(tensors)).sum())

        return f

    def random_direction(self, shape: tuple[int, ...]) -> Array:
        """Draw odd multiples of 1/16 between −2 and 2.

        They have so few binary digits that a step along them is exact.
        """
        return (2 * self.rng.integers(-16, 16, shape) + 1) / 16

    def lines(self, name: str) -> Iterator[tuple[Index | None, Array]]:
        """Yield unit vectors with their index for a small tensor, or else random directions."""
        shape = self.tensors[name].shape
        if self.tensors[name].size > self.max_entries:
            for _ in range(self.directions):
                yield None, self.random_direction(shape)
            return
        for index in np.ndindex(shape):
            unit = np.zeros(shape)
            unit[index] = 1
            yield index, unit

    def paired(self, outputs: Arrays) -> Array:
        """Return the terms cotangent × output, with 0 for outputs of −inf."""
        pairs = [(c, outputs[name]) for name, c in self.cotangents.items()]
        return np.concatenate([(c * np.where(c == 0, 0, output)).ravel() for c, output in pairs])

    def _why_no_complex(self) -> str:
        moved = {n: a + 1j * COMPLEX_STEP for n, a in self.tensors.items()}
        tensors = {n: np.where(np.isfinite(a), moved[n], a) for n, a in self.tensors.items()}
        try:
            outputs = self.problem.evaluate(tensors)
        except Exception as error:  # a forward under test may raise anything
            return f"the forward raised {type(error).__name__}: {error}"
        for name, array in self.problem.outputs.items():
            if is_floating(array) and outputs[name].dtype.kind != "c":
                return f"the forward gave a real {name} for complex inputs, as {NOT_ANALYTIC} do"
            if np.isnan(outputs[name]).any():
                return f"the forward gave NaN in {name} for complex inputs"
        return ""


class Probe(NamedTuple):
    """A claimed derivative along a line, its reference, and the scale of their distance."""

    place: Index | None
    """Index of an entry; None for a direction."""
    claimed: float
    reference: float
    scale: float
    f: Scalar
    """Function along the line, for a closer look."""
    seen: Stencil | None = None
    """Stencil of the difference; None if the reference is the complex step."""

    @property
    def usable(self) -> bool:
        """Whether the reference is finite, that is, within the domain of the forward."""
        return bool(np.isfinite(self.reference))

    @property
    def distance(self) -> float:
        """|g − ĝ|; infinite for NaN."""
        distance = abs(self.claimed - self.reference)
        return float(np.inf if np.isnan(distance) else distance)

    @property
    def error(self) -> float:
        """Distance relative to the scale."""
        return relative(self.distance, self.scale)


def relative(size: float, scale: float) -> float:
    """Return size / scale; infinity for a scale of 0 unless the size is 0."""
    return size / scale if scale else np.inf * size if size else 0.0


def settled(point: Point, probe: Probe, tolerance: float) -> tuple[float, bool]:
    """Return the reference, a better one if it contradicts the claim, and whether it is at a kink.

    A kink (|·| at 0, a tie of a maximum) within the step makes a difference wrong. If a shorter
    step excludes it, the claim must agree with that step, up to rounding. If even the shortest step
    does not, the claim must be between the one-sided slopes. A direction changes several entries,
    and may cross several kinks close together. Then no difference shows the branch of the forward,
    and the claim is not judged. If the function is analytic, the complex step shows the branch. A
    claim that agrees with the complex step is then reported as at a kink. Near the edge of a domain
    the first step is shorter, and the edge is judged like a kink.
    """
    f, claimed, first, many = probe.f, probe.claimed, probe.seen, probe.place is None
    if probe.distance <= tolerance and (first is None or first.smooth):
        return probe.reference, False
    if first is None:
        return settle_sides(f, claimed, tolerance, many=many)
    seen: list[Stencil] = []
    reached = 0  # how many of the stencils reach a kink
    for n in range(SHRINKS + 1):
        seen.append(stencil(f, point.rounding, first.step / SHRINK**n))
        reached = reached if seen[n].smooth else n + 1
        best = min(seen[reached:] or seen[-1:], key=lambda stencil: stencil.error)
        distance = abs(claimed - best.slope)
        if best.smooth and distance <= tolerance:
            return best.slope, False
    if not reached and first.step == DIFFERENCE_STEP:
        return best.slope, False
    if best.smooth:
        kink = distance <= tolerance + best.error
    else:
        low, high = sorted((best.left, best.right))
        slack = tolerance + best.noise + best.jump / SHRINK
        kink = many or low - slack <= claimed <= high + slack
    if not (point.why_no_complex or kink):
        side, _ = settle_sides(f, claimed, tolerance, many=many)
        kink = abs(claimed - side) <= tolerance
    return best.slope, kink


def settle_sides(f: Scalar, claimed: float, tolerance: float, *, many: bool) -> tuple[float, bool]:
    """Resolve a contradiction between the complex step and the claim: the nearer side, or a kink.

    NumPy orders complex numbers with equal real parts by their imaginary parts. At an exact tie of
    a comparison, a maximum or a clip, the sign of the step therefore decides the branch,
    independently of the branch of the real forward. The claim must agree with one side, or be
    between the two. A line through ``many`` entries may cross several ties, each with its own
    branch. On such a line, a claim that agrees with neither side is not judged.
    """
    low, high = sorted((complex_step(f), complex_step(f, -1)))
    nearer = low if abs(claimed - low) < abs(claimed - high) else high
    tie = high - low > tolerance and abs(claimed - nearer) > tolerance
    return nearer, tie and (many or low < claimed < high)
