"""Exact numbers for the package's own NumPy code: what it returns then holds for all values.

A :class:`Number` is exact, as an expression or as a residue at a random point. It also has a value
at a *witness*, which decides comparisons. So a run follows one branch of every maximum, |·| and
sign, and what it proves holds wherever the same branches are taken.
"""

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from traceback import walk_stack
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest


def _operator(operation: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    """Return the methods of an operator: for Numbers on its left and on its right."""

    def method(a: Any, b: Any) -> Any:
        if isinstance(b, np.ndarray):
            return NotImplemented  # NumPy applies the operator to each entry
        b, value = a.of(b), operation(a.value, a.of(b).value)
        infinite = a.exact is None or b.exact is None
        return a.of(value) if infinite else type(a)(operation(a.exact, b.exact), value)

    return method, lambda a, b: method(a.of(b), a)


def _comparison(operation: Callable[[float, float], bool]) -> Any:
    def method(a: Any, b: Any) -> Any:
        if isinstance(b, np.ndarray):
            return NotImplemented
        b = a.of(b)
        symbols = [getattr(x.exact, "free_symbols", ()) for x in (a, b)]  # of expressions
        if any(symbols) and None not in (a.exact, b.exact) and a.value != b.value:
            frames = ((f.f_globals["__name__"], f.f_code.co_name, n) for f, n in walk_stack(None))
            place = tuple(frame[1:] for frame in frames if frame[0].startswith("numpy_xlstm"))
            a.branches.add((place, a.value > b.value))
        return operation(a.value, b.value)

    return method


class Number:
    """A real number: exact, and with a value at the witness. An infinite one has only the value."""

    constant: ClassVar[Callable[..., Any]]
    functions: ClassVar[dict[str, Callable[[Any], Any]]]
    """Functions of exact numbers, by name."""
    branches: ClassVar[set[Any]] = set()
    """Places in the package, and outcomes of comparisons there."""

    def __init__(self, exact: Any, value: float) -> None:
        self.exact, self.value = exact, float(value)

    @classmethod
    def of(cls, x: Any) -> Any:
        """Return a Number, or a constant as one."""
        if isinstance(x, Number):
            return x
        return cls(cls.constant(Fraction(float(x))) if math.isfinite(x) else None, x)

    def apply(self, name: str, function: Callable[[float], float]) -> Any:
        """Return a function of the number, exact and at the witness."""
        if self.exact is None:
            return self.of(function(self.value))
        return type(self)(self.functions[name](self.exact), function(self.value))

    __add__, __radd__ = _operator(operator.add)
    __sub__, __rsub__ = _operator(operator.sub)
    __mul__, __rmul__ = _operator(operator.mul)
    __truediv__, __rtruediv__ = _operator(operator.truediv)
    __lt__, __le__ = _comparison(operator.lt), _comparison(operator.le)
    __gt__, __ge__ = _comparison(operator.gt), _comparison(operator.ge)

    def __eq__(self, other: Any) -> Any:
        return self.value == self.of(other).value

    def __neg__(self) -> Any:
        return 0 - self

    def __abs__(self) -> Any:
        return -self if self < 0 else self

    def __bool__(self) -> bool:
        return self.value != 0

    def conjugate(self) -> Any:
        return self


def exp(x: Any) -> Any:
    return x.apply("exp", math.exp)


def log(x: Any) -> Any:
    return x.apply("log", math.log) if x else x.of(-math.inf)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "exp": exp,
    "expm1": lambda x: exp(x) - 1,
    "log": log,
    "log1p": lambda x: log(1 + x),
    "sqrt": lambda x: x.apply("sqrt", math.sqrt),
    "tanh": lambda x: 2 / (1 + exp(-2 * x)) - 1,
    "isfinite": lambda x: True,
}
"""What NumPy's functions are for Numbers. In addition, real arithmetic has no underflow or
overflow: the smallest positive number is 0. Nothing else is replaced."""


def calculate_with(kind: type[Number], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make NumPy's functions take arrays of Numbers of a kind, which may also hold constants."""

    def extended(name: str, function: Callable[[Any], Any]) -> Any:
        exact, numpys = np.frompyfunc(lambda x: function(kind.of(x)), 1, 1), getattr(np, name)
        return lambda x, **to: (exact if np.asarray(x).dtype.kind == "O" else numpys)(x, **to)

    for name, function in FUNCTIONS.items():
        monkeypatch.setattr(np, name, extended(name, function))
    of_floats, limits = np.finfo, SimpleNamespace(tiny=kind.of(0), eps=1)
    monkeypatch.setattr(np, "finfo", lambda t: limits if np.dtype(t).kind == "O" else of_floats(t))
