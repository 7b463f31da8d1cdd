"""One problem with one set of random cotangents: the scalar function that is differentiated."""

from collections.abc import Iterable

import numpy as np

from numpy_xlstm.gradcheck.places import Index
from numpy_xlstm.gradcheck.problem import Problem
from numpy_xlstm.gradcheck.reference import Scalar
from numpy_xlstm.gradcheck.target import Arrays, copies, is_floating
from numpy_xlstm.numerics import Array


class Point:
    """⟨ȳ, outputs⟩ as a function of all tensors, and the gradients that the backward claims.

    ``dtype`` is that of all tensors, ``gradients`` are from the backward under test. References are
    evaluated at ``tensors``, in float64 or better, where ``rounding`` bounds the error of one value
    of the function. ``why_no_complex`` is empty if the forward carries complex numbers through,
    else what it did instead.
    """

    def __init__(
        self, problem: Problem, rng: np.random.Generator, max_entries: int, directions: int
    ) -> None:
        self.problem, self.rng = problem, rng
        self.max_entries, self.directions = max_entries, directions
        self.dtype = next(iter(problem.tensors.values())).dtype
        self.cotangents = self.random_cotangents()
        self.gradients = copies(problem.backward(self.cotangents))
        precise = np.longdouble if self.dtype == np.longdouble else np.float64
        self.tensors = {name: array.astype(precise) for name, array in problem.tensors.items()}
        size_of_terms = np.abs(self._paired(problem.outputs)).sum()
        self.rounding = float(4 * np.finfo(precise).eps * size_of_terms)
        self.why_no_complex = self._why_no_complex()

    def random_cotangents(self) -> Arrays:
        """Normal cotangents of all outputs; zero beside −inf, the m of an empty state."""
        drawn = {n: self.rng.standard_normal(a.shape) for n, a in self.problem.outputs.items()}
        return {
            name: np.asarray(np.where(array == -np.inf, 0, drawn[name]), array.dtype)
            for name, array in self.problem.outputs.items()
        }

    def along(self, directions: Arrays) -> Scalar:
        """Restrict the function to a line through the point."""

        def f(step: complex) -> complex:
            moved = {
                name: self.tensors[name] + np.where(direction == 0, 0, step * direction)
                for name, direction in directions.items()
            }
            dtype = np.clongdouble if self.dtype == np.longdouble else np.complex128
            tensors = self.tensors | moved
            if isinstance(step, complex):
                tensors = {name: array.astype(dtype) for name, array in tensors.items()}
            return complex(self._paired(self.problem.evaluate(tensors)).sum())

        return f

    def lines(self, name: str) -> Iterable[tuple[Index | None, Array]]:
        """Unit vectors of a small tensor, random directions of a large one, and what they are."""
        shape = self.tensors[name].shape
        if self.tensors[name].size > self.max_entries:
            for _ in range(self.directions):
                yield None, self.rng.standard_normal(shape)
            return
        for index in np.ndindex(shape):
            unit = np.zeros(shape)
            unit[index] = 1
            yield index, unit

    def _paired(self, outputs: Arrays) -> Array:
        """The terms cotangent × output, without those of outputs that are −inf."""
        terms = [
            (c * np.where(c == 0, 0, outputs[name])).ravel() for name, c in self.cotangents.items()
        ]
        return np.concatenate(terms)

    def _why_no_complex(self) -> str:
        tensors = {name: array.astype(np.complex128) for name, array in self.tensors.items()}
        try:
            outputs = self.problem.evaluate(tensors)
        except Exception as error:  # a forward under test may raise anything
            return f"the forward raised {type(error).__name__}: {error}"
        floating = [name for name, array in self.problem.outputs.items() if is_floating(array)]
        real = [name for name in floating if outputs[name].dtype.kind != "c"]
        return f"the forward gave a real {real[0]} for complex inputs" if real else ""
