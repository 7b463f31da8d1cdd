"""A specification whose exponents are rounded as a port might, that adds them in another order."""

import inspect
from types import FunctionType
from typing import Any

import numpy as np

from numpy_xlstm.cells.gates import log_gate
from numpy_xlstm.numerics import Array


class RoundedLogGate:
    """Log of a gate, off by a rounding of the sum of all such logarithms so far.

    The exponents of a memory are sums of logarithms of gates. Who adds them up over a chunk, and
    takes differences, rounds numbers as large as the sum.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.total = rng, np.zeros(())

    def begin(self) -> None:
        """Forget the sum: a sequence begins."""
        self.total = np.zeros(())

    def __call__(self, pre: Array, gate: str) -> Array:
        """Take the place of :func:`log_gate`."""
        exact = log_gate(pre, gate)
        self.total = self.total + np.abs(exact)
        off = np.finfo(exact.dtype).eps * self.total * (2 * self.rng.random(exact.shape) - 1)
        rounded: Array = (exact + off).astype(exact.dtype)
        return rounded


def rounding(specification: Any, noise: RoundedLogGate) -> Any:
    """Return a specification whose step forward has such exponents; the same if it has none."""
    return with_functions(specification, "forward", log_gate=noise)


def with_functions(specification: Any, method: str, **functions: Any) -> Any:
    """Return a cell of which a method calls other functions; the same cell if it calls none."""
    found = inspect.unwrap(getattr(specification, method, specification))
    if not isinstance(found, FunctionType) or not functions.keys() & set(found.__code__.co_names):
        return specification
    scope = {**found.__globals__, **functions}
    other = FunctionType(found.__code__, scope, method, found.__defaults__)
    return type(specification)(specification.__name__, (specification,), {method: other})
