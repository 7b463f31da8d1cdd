"""Proof by expressions: SymPy differentiates a forward and compares it with the backward.

Functions of one exponential of each argument are rational. So the difference of two of them is 0
for all values exactly if its numerator, a polynomial, expands to 0.
"""

from typing import Any, ClassVar

import numpy as np
import sympy as sp

from numpy_xlstm.trees import places
from tests.proof.cases import Run, mapped, numbers
from tests.proof.numbers import Number


class Symbolic(Number):
    """An expression."""

    constant: ClassVar[Any] = sp.Rational
    functions: ClassVar[Any] = {"exp": sp.exp, "log": sp.log, "sqrt": sp.sqrt}

    @classmethod
    def variable(cls, name: str, value: float) -> "Symbolic":
        return cls(sp.Symbol(name, real=True), value)


def derivatives(run: Run) -> tuple[int, list[str]]:
    """Return the number of derivatives of a run, and those that the backward does not return."""
    count, wrong, variables = 0, [], numbers(run.inputs)
    cotangents = mapped(lambda *_: 0, run.outputs)
    for (name, y), (_, dy) in zip(places("", run.outputs), places("", cotangents), strict=True):
        for at in np.ndindex(y.shape):
            dy[at] = 1
            for x, got in zip(variables, numbers(run.backward(cotangents)), strict=True):
                count += 1
                derivative = sp.diff(Symbolic.of(y[at]).exact, x.exact)
                if not vanishes(derivative - Symbolic.of(got).exact):
                    wrong.append(f"output {name}{list(at)} by {x.exact}")
            dy[at] = 0
    return count, wrong


def vanishes(expression: Any) -> Any:
    """Return whether an expression is 0 for all values of its symbols."""
    while expression.has(sp.exp):  # the innermost first
        inner = [e for e in expression.atoms(sp.exp) if not e.args[0].has(sp.exp)]
        expression = expression.xreplace({e: product(e.args[0]) for e in inner})
    return sp.expand(sp.numer(sp.together(expression))) == 0


def product(exponent: Any) -> Any:
    """Return e^(Σ c log r + Σ c t) as Π r^c · Π E_t^c, with a symbol E_t for each e^t."""
    terms = [term.as_coeff_Mul() for term in sp.Add.make_args(sp.expand(exponent))]
    bases = [t.args[0] if isinstance(t, sp.log) else sp.Symbol(f"E({t})") for _, t in terms]
    return sp.prod(base**c for base, (c, _) in zip(bases, terms, strict=True))
