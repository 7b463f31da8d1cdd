"""A specification whose exponents have the rounding errors of another order of summation."""

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from numpy_xlstm.cells.gates import log_gate
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import tree_map


class RoundedLogGate:
    """Log of a gate, with an error of up to ε times the sum of all logs up to this step.

    The exponents of a memory are sums of logs of gates. A port that sums them over a chunk and
    takes differences rounds numbers as large as the sum.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.total = rng, np.zeros(())

    def begin(self) -> None:
        """Reset the sum at the start of a sequence."""
        self.total = np.zeros(())

    def __call__(self, pre: Array, gate: str) -> Array:
        """Return :func:`log_gate` with the error."""
        exact = log_gate(pre, gate)
        self.total = self.total + np.abs(exact)
        off = np.finfo(exact.dtype).eps * self.total * (2 * self.rng.random(exact.shape) - 1)
        rounded: Array = (exact + off).astype(exact.dtype)
        return rounded


def rounding(specification: Any, noise: RoundedLogGate) -> Any:
    """Return the specification with such exponents in its forward, or unchanged if it has none."""
    return with_functions(specification, "forward", log_gate=noise)


def stored(specification: Any, rounded: Callable[[Array], Array]) -> Any:
    """Return the cell or module with a state, and its cotangents, that are rounded at each step."""
    if not hasattr(specification, "init_state"):
        return specification

    def forward(self: Any, x: Array, state: Any = None) -> Any:
        return specification.forward(self, x, tree_map(rounded, state))

    def backward(self: Any, dy: Array, cache: Any, dstate: Any = None) -> Any:
        return specification.backward(self, dy, cache, tree_map(rounded, dstate))

    methods = {"forward": forward, "backward": backward}
    return type(specification)(specification.__name__, (specification,), methods)


def with_functions(specification: Any, method: str, **functions: Any) -> Any:
    """Return the cell with these functions replaced in a method; unchanged if it calls none."""
    found = inspect.unwrap(getattr(specification, method, specification))
    if not isinstance(found, FunctionType) or not functions.keys() & set(found.__code__.co_names):
        return specification
    scope = {**found.__globals__, **functions}
    other = FunctionType(found.__code__, scope, method, found.__defaults__)
    return type(specification)(specification.__name__, (specification,), {method: other})
