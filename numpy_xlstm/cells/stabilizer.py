"""The stabiliser m of exponential gates, and what its freedom of choice costs in the backward.

Derived in ``docs/derivations/stabiliser.md``, whose tags are cited here. Gates are stored divided
by e^m, and m is chosen at each step so that no exponential can overflow. (c, n, m) and
(c·e^a, n·e^a, m − a) mean the same, for any a: m is a gauge.
"""

import numpy as np

from numpy_xlstm.numerics import (
    Array,
    log_sigmoid,
    log_sigmoid_slope,
    maximum,
)

FORGET_GATES = ("sigmoid", "exp")


def log_forget(f_pre: Array, forget_gate: str) -> Array:
    """Log of the forget gate: log σ(f̃) or f̃, a fresh array  [stab.1]."""
    return log_sigmoid(f_pre) if forget_gate == "sigmoid" else f_pre.copy()


def log_forget_slope(f_pre: Array, forget_gate: str) -> Array | int:
    """Derivative of :func:`log_forget`: σ(−f̃) or 1  [stab.2]."""
    return log_sigmoid_slope(f_pre) if forget_gate == "sigmoid" else 1


def stabilise(
    i_pre: Array,
    log_f: Array,
    m_prev: Array,
    out: tuple[Array | None, Array | None, Array | None] = (None, None, None),
) -> tuple[Array, Array, Array]:
    """Choose m and divide both gates by e^m: i′, f′ and m, written to ``out`` if that is given.

    m₋ = −inf says that there is no past.
    """
    carried = log_f + m_prev
    m = maximum(carried, i_pre, out[2])  # [stab.3]
    i = np.subtract(i_pre, m, out=out[0])
    f = np.subtract(carried, m, out=out[1])
    return np.exp(i, out=i), np.exp(f, out=f), m  # [stab.4] [stab.5]


def split_residual(r: Array, f: Array) -> tuple[Array, Array]:
    """Route the gauge residual through the maximum: to log f + m₋, or to ĩ  [stab.7].

    log f + m₋ has won, or tied, where f′ = 1.
    """
    carries = f.real == 1
    return np.where(carries, r, 0), np.where(carries, 0, r)
