"""Bounds on the errors of results, from the measured conditioning of a case.

Derived in ``docs/conformance.md``.
"""

from functools import cache
from typing import Any

import numpy as np

from numpy_xlstm.conformance.exponents import RoundedLogGate, rounding
from numpy_xlstm.conformance.subjects import Arrays, Options, Subject
from numpy_xlstm.errors import DTypeError
from numpy_xlstm.numerics import Array

RUNS = 16
"""Number of runs of the specification in the dtype of the case, each with perturbed inputs."""
SHAKE = 4
"""Largest perturbation of an input, in units of the last place."""
SAFETY = 16
"""Largest accepted error of a port, as a multiple of the typical error of the specification."""
ROUNDINGS = 16
"""Accepted error of an entry, in units of ε times the largest number of its kind and row."""

TRUTH = np.dtype(np.longdouble)
"""Dtype of exact results, with 64 bits of mantissa on platforms that have such a format."""


def in_dtype(arrays: Arrays, dtype: Any) -> Arrays:
    """Convert the arrays of real numbers to another dtype."""
    return {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in arrays.items()}


def truth(subject: Subject, options: Options, inputs: Arrays) -> Arrays:
    """Compute all results in the widest dtype; gelu supports at most float64."""
    try:
        return subject.run(options, in_dtype(inputs, TRUTH))
    except DTypeError:
        return subject.run(options, in_dtype(inputs, np.float64))


def bounds(
    subject: Subject,
    options: Options,
    inputs: Arrays,
    expected: Arrays,
    exact: set[str],
    rng: np.random.Generator,
) -> Arrays:
    """Return the bound on the error of every entry of every result."""
    off = {name: np.zeros(array.shape) for name, array in expected.items()}
    noise = RoundedLogGate(rng)
    specification = subject.specification if exact else rounding(subject.specification, noise)
    for _ in range(RUNS):
        noise.begin()
        found = subject.run(options, shaken(inputs, exact, rng), specification)
        for name, array in found.items():
            off[name] = np.hypot(off[name], distance(array, expected[name]))
    typical = of_kind_and_row(subject, {name: total / RUNS**0.5 for name, total in off.items()})
    limits, near = np.finfo(dtype_of(inputs)), scales(subject, inputs, expected)
    rounding_of = {name: float(limits.eps) * near[name] + float(limits.tiny) for name in near}
    return {name: SAFETY * typical[name] + ROUNDINGS * rounding_of[name] for name in expected}


def shaken(inputs: Arrays, exact: set[str], rng: np.random.Generator) -> Arrays:
    """Perturb inputs by a few units of the last place, except those in ``exact``."""
    moved = dict(inputs)
    for name, array in inputs.items():
        if array.dtype.kind == "f" and name not in exact:
            eps = np.finfo(array.dtype).eps
            factors = 1 + SHAKE * eps * (2 * rng.random(array.shape) - 1)
            moved[name] = (array * factors).astype(array.dtype)
    return moved


def dtype_of(arrays: Arrays) -> np.dtype[Any]:
    """Return the dtype of the arrays of real numbers."""
    return next(a.dtype for a in arrays.values() if a.dtype.kind == "f")


def scales(subject: Subject, inputs: Arrays, expected: Arrays) -> Arrays:
    """Return for each entry the largest number of its kind and row.

    For gradients of inputs, which are products with parameters, it is multiplied by the largest
    parameter, if that is above 1.
    """
    params = [magnitude(a).max(initial=1) for n, a in inputs.items() if is_parameter(n)]
    found = of_kind_and_row(subject, {name: magnitude(array) for name, array in expected.items()})
    return {n: a * max(params, default=1) if kind(n) == "inputs" else a for n, a in found.items()}


def of_kind_and_row(subject: Subject, arrays: Arrays) -> Arrays:
    """Return for each entry the largest entry of its kind and row.

    An initial m is the log of a weight, as the gates' pre-activations are. For its gradient, the
    maximum therefore includes the gradients of inputs.
    """
    by_row = {name: _by_row(subject, name, array.ndim) for name, array in arrays.items()}
    rows: dict[str, Array] = {}
    for name, array in arrays.items():
        axes = range(1, array.ndim) if by_row[name] else range(array.ndim)
        largest = array.max(axis=tuple(axes), initial=0)
        rows[kind(name)] = np.maximum(rows.get(kind(name), 0.0), largest)
    spread = {}
    for name, array in arrays.items():
        largest = rows[kind(name)]
        if kind(name) == "dstate0" and name.endswith(".m"):
            largest = np.maximum(largest, rows.get("inputs", 0.0))
        if by_row[name]:
            largest = largest.reshape(-1, *[1] * (array.ndim - 1))
        else:
            largest = largest.max(initial=0)
        spread[name] = np.broadcast_to(largest, array.shape)
    return spread


@cache
def _by_row(subject: Subject, name: str, ndim: int) -> bool:
    return subject.pattern(name, ndim).startswith("row")


def is_parameter(name: str) -> bool:
    """Return whether an input is a parameter, or the R that a function takes as an argument."""
    return name.startswith("params.") or name == "R"


def kind(name: str) -> str:
    """Return the kind of a gradient (parameters, state, inputs), or the name of another result."""
    first = name.split(".")[0]
    if first in ("grads", "dstate0"):
        return first
    if is_parameter(name.removeprefix("d")):
        return "grads"
    return "inputs" if first.startswith("d") else name


def magnitude(array: Array) -> Array:
    """Return |a| of finite entries, and 0 for the others."""
    return np.abs(np.where(np.isfinite(array), array, 0)).astype(np.float64)


def distance(found: Array, expected: Array) -> Array:
    """Return |a − b|: 0 where both are −inf, infinite where one is −inf or NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart: Array = np.abs(found.astype(expected.dtype) - expected).astype(np.float64)
    if not (unknown := np.isnan(apart)).any():
        return apart
    same = np.isneginf(found) & np.isneginf(expected)
    return np.where(unknown, np.where(same, 0, np.inf), apart)
