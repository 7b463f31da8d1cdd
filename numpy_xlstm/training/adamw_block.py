"""A part of a parameter that AdamW updates at a time."""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.kernels import adamw
from numpy_xlstm.numerics import Array


class Block(NamedTuple):
    """A part of a parameter p with gradient g, moments m and v, and the factors of a step."""

    name: str
    p: Array
    g: Array
    m: Array
    v: Array
    scale: float  # of g
    factors: adamw.Factors

    def update(self) -> float:
        """Update p, m and v in place; return the largest change of p apart from weight decay."""
        return largest(adamw.update(*self[1:]))

    def is_harmless(self) -> bool:
        """Return whether a simple bound proves finite results, as in every ordinary step."""
        (P, G, M, V), by = map(_norm, self[1:5]), self.factors
        G *= self.scale
        bound = abs(by.shrink) * P + (1 + by.rate) * (G + M) / by.eps + V + G * G
        return bound < float(np.finfo(self.p.dtype).max) / 2


def _norm(array: Array) -> float:
    """Return a bound on the absolute values of entries whose squares do not underflow."""
    flat = array.ravel("K")
    return float(np.sqrt(np.dot(flat, flat)))


def largest(array: Array) -> float:
    """Return the largest absolute value without an array of absolute values."""
    return float(max(array.max(initial=0), -array.min(initial=0)))
