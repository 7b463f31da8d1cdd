"""The outputs of a problem as a scalar function near one point."""

from collections.abc import Iterator

import numpy as np

from numpy_xlstm.gradcheck.problem import Problem
from numpy_xlstm.gradcheck.reference import COMPLEX_STEP, DIFFERENCE_STEP, Scalar
from numpy_xlstm.gradcheck.report import Index
from numpy_xlstm.gradcheck.target import Arrays, copies, is_floating
from numpy_xlstm.numerics import Array

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
