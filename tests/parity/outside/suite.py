"""What a suite of cases is, and what came out of it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.numerics import Array

Case = Callable[[], float]
"""Runs theirs and ours, and returns the largest relative error; may raise :class:`NotHere`."""


class NotHere(Exception):  # noqa: N818
    """A case asks for what no cell here has; the message says what."""


class Suite(NamedTuple):
    """Cases that others wrote, or that are decided by what others wrote."""

    tolerance: float
    cases: Callable[[], Mapping[str, Case]]


class Outcome(NamedTuple):
    """What a row of the table says."""

    cases: int
    run: int
    passed: int
    error: float  # the largest of the cases that were run
    not_here: set[str]  # what the others ask for
    failures: dict[str, float]


def run(suite: Suite) -> Outcome:
    """Run all cases."""
    cases, errors, not_here = suite.cases(), {}, set()
    for name, case in cases.items():
        try:
            errors[name] = case()
        except NotHere as missing:
            not_here.add(str(missing))
    failures = {name: e for name, e in errors.items() if not e <= suite.tolerance}
    passed, worst = len(errors) - len(failures), max(errors.values(), default=0.0)
    return Outcome(len(cases), len(errors), passed, worst, not_here, failures)


def error(got: Iterable[Any], expected: Iterable[Any]) -> float:
    """The largest max |a − b| / max |b| of pairs of arrays; infinite for NaN or another shape."""
    return max(_error(np.asarray(a), np.asarray(b)) for a, b in zip(got, expected, strict=True))


def _error(a: Array, b: Array) -> float:
    if a.shape != b.shape or a.dtype != b.dtype or not np.isfinite(a).all():
        return np.inf
    scale = float(np.abs(b).max(initial=0)) or 1.0
    return float(np.abs(a - b).max(initial=0)) / scale
