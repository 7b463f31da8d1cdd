"""Suites of cases, and their outcomes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.numerics import Array

Case = Callable[[], float]
"""Function that runs both, and returns the largest relative error or raises :class:`NotHere`."""


class NotHere(Exception):  # noqa: N818
    """A case needs a feature that no cell has; the message is its name."""


class Suite(NamedTuple):
    """Cases from another project, or with expected results from it."""

    tolerance: float
    cases: Callable[[], Mapping[str, Case]]


class Outcome(NamedTuple):
    """Outcome of a suite, a row of the table."""

    cases: int
    run: int
    passed: int
    error: float  # largest error of the cases that were run
    not_here: set[str]  # missing features in the other cases
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
    """Return the largest max |a − b| / max |b| of pairs; infinite for NaN or another shape."""
    return max(_error(np.asarray(a), np.asarray(b)) for a, b in zip(got, expected, strict=True))


def _error(a: Array, b: Array) -> float:
    if a.shape != b.shape or a.dtype != b.dtype or not np.isfinite(a).all():
        return np.inf
    scale = float(np.abs(b).max(initial=0)) or 1.0
    return float(np.abs(a - b).max(initial=0)) / scale
