"""Proof at random points: exact arithmetic modulo large primes, for what is too long to expand.

Two rational functions that differ agree at a random point modulo p with a probability below their
degree / p (Schwartz 1980, Zippel 1979), here about 10⁻¹⁵. For exponentials (Gonnet 1984), there is
a tower of primes, each a divisor of the next one minus 1: with g of order p modulo q, the map
a ↦ gᵃ from residues modulo p to those modulo q satisfies e^(a+b) = e^a e^b. A number within n
exponentials has residues from level n on; identities are decided at the last level. A log or a Φ
is a new random number, with the exponential or the derivative that it must have. A square root has
a residue at the last level alone, and only if the point has one.

Each number also has its derivative along a random direction. The sum of cotangents times those of
the outputs must be the sum of gradients times the direction.
"""

import random
from collections.abc import Callable
from fractions import Fraction
from functools import partialmethod
from itertools import count
from typing import Any, ClassVar

import numpy as np
import sympy

from tests.proof.cases import Run, mapped, numbers
from tests.proof.numbers import Number

LEVELS = 10
RANDOM = random.Random(7)
DENSITY = Fraction((2 * np.pi) ** -0.5)


def tower() -> tuple[list[int], list[int]]:
    """Return primes that are 3 modulo 4, and for each the g that belongs to the one before."""
    start = 2**61 + RANDOM.getrandbits(40)
    primes, roots = [next(p for n in count(start) if sympy.isprime(p := 4 * n + 3))], [0]
    while len(primes) < LEVELS:
        p = primes[-1]
        q = next(q for a in count(2, 4) if sympy.isprime(q := a * p + 1))
        roots.append(next(g for h in count(2) if (g := pow(h, q // p, q)) != 1))
        primes.append(q)
    return primes, roots


PRIMES, ROOTS = tower()
TOP = PRIMES[-1]
Levels = tuple[int | None, ...]


def at_levels(function: Callable[..., int], *levels: Levels) -> Levels:
    """Apply a function of a prime and residues at each level where all numbers have one."""
    rows = zip(PRIMES, *levels, strict=True)
    return tuple(None if None in row else function(*row) % row[0] for row in rows)


def drawn(rng: random.Random) -> Levels:
    return tuple(rng.randrange(1, p) for p in PRIMES)


class Residue:
    """Residues of a number at each level, its derivative, and the logs that it contains."""

    new: ClassVar[dict[tuple[str, Levels], Levels]] = {}  # logs and Φs by their arguments

    def __init__(self, levels: Levels, slope: int = 0, logs: Any = ()) -> None:
        assert levels[-1] is not None, "more exponentials within each other than LEVELS"
        self.levels, self.top, self.slope = levels, levels[-1], slope % TOP
        self.logs = dict(logs)  # c by z for each term c log z

    def plus(self, other: "Residue", sign: int) -> "Residue":
        levels = at_levels(lambda p, a, b: a + sign * b, self.levels, other.levels)
        a, b = self.logs, other.logs
        logs = {z: c for z in a | b if (c := a.get(z, 0) + sign * b.get(z, 0))}
        return Residue(levels, self.slope + sign * other.slope, logs)

    __add__ = partialmethod(plus, sign=1)
    __sub__ = partialmethod(plus, sign=-1)

    def __mul__(self, other: "Residue") -> "Residue":
        levels = at_levels(lambda p, a, b: a * b, self.levels, other.levels)
        return Residue(levels, self.slope * other.top + self.top * other.slope)

    def __truediv__(self, other: "Residue") -> "Residue":
        levels = at_levels(lambda p, a: pow(a, -1, p), other.levels)
        return self * Residue(levels, -other.slope * pow(other.top, -2, TOP))

    def exp(self) -> "Residue":
        """Return e^(Σ c log z + rest) as Π z^c e^rest."""
        levels = self.levels
        for z, c in self.logs.items():
            levels = at_levels(lambda p, a, b, c=c: a - c * b, levels, self.new["log", z])
        levels = at_levels(lambda p, g, a: pow(g, a, p), tuple(ROOTS), (None, *levels[:-1]))
        for z, c in self.logs.items():
            levels = at_levels(lambda p, a, b, c=c: a * pow(b, c, p), levels, z)
        return Residue(levels, self.slope * Residue(levels).top)

    def log(self) -> "Residue":
        levels = self.new.setdefault(("log", self.levels), drawn(RANDOM))
        return Residue(levels, self.slope * pow(self.top, -1, TOP), {self.levels: 1})

    def sqrt(self) -> "Residue":
        root = pow(self.top, (TOP + 1) // 4, TOP)
        if root * root % TOP != self.top:
            raise ArithmeticError("no square root at this point")
        return Residue((None,) * (LEVELS - 1) + (root,), self.slope * pow(2 * root, -1, TOP))

    def ndtr(self) -> "Residue":
        levels = self.new.setdefault(("ndtr", self.levels), drawn(RANDOM))
        density = (self * self * constant(Fraction(-1, 2))).exp() * constant(DENSITY)
        return Residue(levels, self.slope * density.top)


def constant(x: Fraction) -> Residue:
    return Residue(tuple(x.numerator * pow(x.denominator, -1, p) % p for p in PRIMES))


class Modular(Number):
    """A number at a random point. A variable is drawn for its name and its witness."""

    constant: ClassVar[Any] = constant
    functions: ClassVar[Any] = {n: getattr(Residue, n) for n in ("exp", "log", "sqrt", "ndtr")}

    @classmethod
    def variable(cls, name: str, value: float) -> "Modular":
        rng = random.Random(f"{name} {value}")
        return cls(Residue(drawn(rng), rng.randrange(TOP)), value)


def tops(tree: Any) -> list[float]:
    """Return the residues of all entries at the last level; −inf for m of an empty state."""
    entries = map(Modular.of, numbers(tree))
    return [x.value if x.exact is None else x.exact.top for x in entries]


def backward_is_exact(run: Run) -> bool:
    """Return whether the gradients are those of the outputs, for random cotangents."""
    cotangents = mapped(lambda *_: Modular(Residue(drawn(RANDOM)), RANDOM.gauss(0, 1)), run.outputs)
    gradients = run.backward(cotangents)

    def along(factors: Any, tree: Any) -> int:
        pairs = zip(tops(factors), map(Modular.of, numbers(tree)), strict=True)
        return sum(int(d) * x.exact.slope for d, x in pairs if x.exact is not None)

    return (along(cotangents, run.outputs) - along(gradients, run.inputs)) % TOP == 0
