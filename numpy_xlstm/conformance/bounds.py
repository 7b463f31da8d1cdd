"""How far results may be from the truth: the conditioning of a case, measured.

Derived in ``docs/conformance.md``.
"""

from typing import Any

import numpy as np

from numpy_xlstm.conformance.subjects import Arrays, Options, Subject
from numpy_xlstm.errors import DTypeError
from numpy_xlstm.numerics import Array

RUNS = 16
"""How often the specification is run in the dtype of the case, each time on inputs that differ."""
SHAKE = 4
"""How many units of the last place an input is moved, at most."""
SAFETY = 16
"""How many times the typical error of the specification a port's may be."""
ROUNDINGS = 16
"""So many roundings of the largest entry beside it are accepted in any entry."""

TRUTH = np.dtype(np.longdouble)
"""What the truth is computed in: 64 bits of mantissa, where there is such a format."""


def in_dtype(arrays: Arrays, dtype: Any) -> Arrays:
    """Arrays with their real numbers in another dtype."""
    return {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in arrays.items()}


def truth(subject: Subject, options: Options, inputs: Arrays) -> Arrays:
    """All results, as exactly as this machine can; gelu is not known to more than float64."""
    try:
        return subject.run(options, in_dtype(inputs, TRUTH))
    except DTypeError:
        return subject.run(options, in_dtype(inputs, np.float64))


def shaken(inputs: Arrays, exact: set[str], rng: np.random.Generator) -> Arrays:
    """Inputs moved by a few units of the last place, but for those that are to stay."""
    moved = dict(inputs)
    for name, array in inputs.items():
        if array.dtype.kind == "f" and name not in exact:
            eps = np.finfo(array.dtype).eps
            factors = 1 + SHAKE * eps * (2 * rng.random(array.shape) - 1)
            moved[name] = (array * factors).astype(array.dtype)
    return moved


def bounds(
    subject: Subject,
    options: Options,
    inputs: Arrays,
    expected: Arrays,
    exact: set[str],
    rng: np.random.Generator,
) -> Arrays:
    """Bound of every entry of every result."""
    squares = {name: np.zeros(array.shape) for name, array in expected.items()}
    for _ in range(RUNS):
        found = subject.run(options, shaken(inputs, exact, rng))
        for name, array in found.items():
            squares[name] += distance(array, expected[name]) ** 2
    least = floors(subject, expected, np.finfo(dtype_of(inputs)))
    return {n: SAFETY * np.sqrt(total / RUNS) + least[n] for n, total in squares.items()}


def dtype_of(arrays: Arrays) -> np.dtype[Any]:
    """The dtype of the real arrays."""
    return next(a.dtype for a in arrays.values() if a.dtype.kind == "f")


def floors(subject: Subject, expected: Arrays, limits: Any) -> Arrays:
    """What is accepted however good the condition is: roundings of larger entries."""
    return {
        name: ROUNDINGS * (float(limits.eps) * scale + float(limits.tiny))
        for name, scale in scales(subject, expected).items()
    }


def scales(subject: Subject, expected: Arrays) -> Arrays:
    """The numbers beside which each entry is seen.

    Of an output or a state that is the largest in its row. Of a gradient it is the largest of all
    that are gradients of the same kind, whose terms may cancel in it: of the parameters, of the
    state before, or of the inputs.
    """
    kinds: dict[str, float] = {}
    for name, array in expected.items():
        kinds[kind(name)] = max(kinds.get(kind(name), 0.0), float(magnitude(array).max(initial=0)))
    return {
        name: np.broadcast_to(kinds[kind(name)], array.shape)
        if kind(name)
        else row_scale(subject, name, array)
        for name, array in expected.items()
    }


def kind(name: str) -> str:
    """Of what a result is a gradient; "" if it is none."""
    first = name.split(".")[0]
    if first in ("grads", "dstate0"):
        return first
    return "inputs" if first.startswith("d") else ""


def row_scale(subject: Subject, name: str, array: Array) -> Array:
    """The largest number in the row of each entry; of the whole tensor, if it has no rows."""
    by_row = subject.pattern(name, array.ndim).startswith("row")
    axes = tuple(range(1 if by_row else 0, array.ndim))
    largest = magnitude(array).max(axis=axes, keepdims=True, initial=0)
    return np.broadcast_to(largest, array.shape)


def magnitude(array: Array) -> Array:
    """|a| of the finite entries, 0 of the others."""
    return np.abs(np.where(np.isfinite(array), array, 0)).astype(np.float64)


def distance(found: Array, expected: Array) -> Array:
    """|a − b|: 0 where both are −inf, infinite where one is, or NaN."""
    same = np.isneginf(found) & np.isneginf(expected)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(found.astype(expected.dtype) - expected).astype(np.float64)
    apart = np.where(np.isnan(apart), np.inf, apart)
    return np.where(same, 0, apart)
