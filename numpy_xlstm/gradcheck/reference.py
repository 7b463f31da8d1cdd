"""A function near one point, and its derivatives along a direction, computed without a backward.

Complex step: f′(0) = Im f(ih)/h for analytic f. There is no difference and therefore no
cancellation, and h can be so small that its square vanishes (Squire & Trapp, SIAM Review 40, 1998).

Central differences D(h) = (f(h) − f(−h))/2h with one Richardson extrapolation,
(4 D(h/2) − D(h))/3: truncation error O(h⁴), rounding error O(ε/h), best at h ≈ ε^(1/5).
"""

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np

from numpy_xlstm.gradcheck.axes import Index
from numpy_xlstm.gradcheck.problem import Problem
from numpy_xlstm.gradcheck.target import copies, is_floating
from numpy_xlstm.numerics import Array, Arrays

COMPLEX_STEP = 1e-100
DIFFERENCE_STEP, SHRINK = 2.0**-11, 8.0
"""Step of a difference, and factor by which it is shortened. These are powers of two, so that x ± h
is exact also for a large x."""
SHRINKS = 5
"""Number of times that a step is shortened if a difference does not decide about a claim, the slope
from the backward; twice this number if the function is not finite."""
SMOOTH, MARGIN = 1e-4, 50
"""Largest bend, relative to the scale, of a difference that agrees with a claim; and factor on the
bend for one that does not: on a line across several kinks, bends may cancel, but hardly to a 50th.
"""

Scalar = Callable[[complex], complex]


def complex_step(f: Scalar, side: float = 1.0) -> float:
    """Return Im f(ih)/h, with −h for the side −1."""
    return float(f(1j * side * COMPLEX_STEP).imag / (side * COMPLEX_STEP))


class Difference(NamedTuple):
    """A slope at 0 by finite differences."""

    slope: float
    bend: float
    """Sum of the second differences of four slopes side by side: ∝ step² if smooth. If one kink is
    within the step, the slope is wrong by less than half the bend, wherever the kink is."""
    noise: float
    """Bound on the rounding error of the slope."""


def noise(rounding: float, step: float = DIFFERENCE_STEP) -> float:
    """Return a bound on the rounding error of a slope, given that of one value."""
    return 128 * rounding / step


def difference(f: Scalar, rounding: float, step: float) -> Difference:
    """Evaluate ``f`` at 0, ±step/2 and ±step; ``rounding`` bounds the error of one value."""
    values = [f(part * step).real for part in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    a, b, c, d = (2 * (after - before) / step for before, after in pairwise(values))
    slope = (7 * (b + c) - (a + d)) / 12  # (4 D(h/2) − D(h))/3
    return Difference(slope, abs(a - 2 * b + c) + abs(b - 2 * c + d), noise(rounding, step))


def differences(f: Scalar, rounding: float) -> Iterator[Difference]:
    """Yield differences of shorter and shorter steps, from the first that is finite."""
    steps = (DIFFERENCE_STEP / SHRINK**n for n in range(2 * SHRINKS + 1))
    every = (difference(f, rounding, step) for step in steps)
    return islice((each for each in every if math.isfinite(each.slope)), SHRINKS + 1)


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

    def slope(self, f: Scalar) -> float:
        """Return the slope of ``f`` at 0; NaN outside the domain of the forward."""
        if not self.why_no_complex:
            return complex_step(f)
        return next((seen.slope for seen in differences(f, self.rounding)), np.nan)

    def along(self, directions: Arrays) -> Scalar:
        """Restrict the function to a line through the point; NaN if a real step is rounded away."""
        smallest = DIFFERENCE_STEP / 2 / 16  # half a step along 1/16, the least part of a direction
        # shorter steps are only tried if this one does not decide
        lost = any(
            (np.spacing(np.abs(self.tensors[name][direction != 0])) > smallest).any()
            for name, direction in directions.items()
        )

        @cache
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

    entry: Index | None
    """Index of the entry; None for a direction."""
    claimed: float
    reference: float
    """Not finite outside the domain of the forward."""
    scale: float
    f: Scalar
    """Function along the line, for a closer look."""

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


def settled(point: Point, probe: Probe, rtol: float) -> float | None:
    """Return the slope that decides about a claim, or None at a kink."""
    if point.why_no_complex:
        return by_differences(probe, rtol, point.rounding)
    return by_complex_step(probe, rtol)


def by_complex_step(probe: Probe, rtol: float) -> float | None:
    """Judge a claim by the complex step.

    NumPy orders complex numbers with equal real parts by their imaginary parts. At an exact tie of
    a comparison, a maximum or a clip, the sign of the step therefore decides the branch,
    independently of the branch of the real forward. The claim must agree with one side, or be
    between the two. A direction may cross several ties, each with its own branch. On such a line,
    a claim that agrees with neither side is not judged.
    """
    if probe.error <= rtol:
        return probe.reference
    claimed, tolerance = probe.claimed, rtol * probe.scale
    low, high = sorted((complex_step(probe.f), complex_step(probe.f, -1)))
    nearer = low if abs(claimed - low) < abs(claimed - high) else high
    tie = high - low > tolerance and abs(claimed - nearer) > tolerance
    return None if tie and (probe.entry is None or low < claimed < high) else nearer


def by_differences(probe: Probe, rtol: float, rounding: float) -> float | None:
    """Judge a claim by finite differences.

    A kink (|·| at 0, a tie of a maximum) within the step makes a difference wrong. Shorter steps
    are therefore tried until one agrees with the claim, or is further away from it than kinks could
    explain. If there is none, the claim of an entry must be one that a kink within the shortest
    step explains. A direction may cross several kinks, each with its own branch. On such a line,
    the claim is not judged.
    """
    for seen in differences(probe.f, rounding):
        excess = abs(probe.claimed - seen.slope) - rtol * probe.scale
        agrees = excess <= 0 and seen.bend <= SMOOTH * probe.scale
        if agrees or excess > MARGIN * seen.bend + seen.noise:
            return seen.slope
    wrong = probe.entry is not None and excess > seen.bend / 2 + seen.noise
    return seen.slope if wrong else None
