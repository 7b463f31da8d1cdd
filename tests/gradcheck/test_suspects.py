"""Correct layers that no reference method can check; the report gives the reason."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.numerics import Array

RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 2))
ANALYTIC = "is the forward analytic as written?"


def test_a_forward_that_refuses_all_other_points_is_reported_all_the_same() -> None:
    def forward(x: Array) -> Any:
        if x.dtype.kind == "f" and not np.array_equal(x, X):
            raise ValueError("expected X")
        return x**2, x

    report = gradcheck((forward, lambda dy, x: 3 * x * dy), X, rng=0)
    assert {row.method for row in report.failures} == {"complex", "adjoint"}
    assert report.notes == ("no differences: the forward refuses points near this one: expected X",)


SIZES: dict[str, tuple[Callable[[Array], Any], Callable[[Array], Array]]] = {
    "np.linalg.norm": (np.linalg.norm, lambda x: x / np.linalg.norm(x)),
    "x.var()": (lambda x: x.var(), lambda x: 2 * (x - x.mean()) / x.size),
    "x.std()": (lambda x: x.std(), lambda x: (x - x.mean()) / x.size / x.std()),
}
"""Functions of an array that are not analytic, and their gradients."""


def over(size: Callable[[Array], Any], slope: Callable[[Array], Array]) -> Any:
    """Return x / size(x) and its backward."""

    def backward(dy: Array, x: Array) -> Array:
        return np.asarray(dy / size(x) - (dy * x).sum() / size(x) ** 2 * slope(x))

    return lambda x: (x / size(x), x), backward


SIGNS = {
    "np.sign": (lambda x: (x + x * np.sign(x), x), lambda dy, x: dy * (1 + np.sign(x))),
    "np.abs": (lambda x: (x / (1 + np.abs(x)), x), lambda dy, x: dy / (1 + np.abs(x)) ** 2),
}
PAIRS: dict[str, Any] = {name: over(*known) for name, known in SIZES.items()} | SIGNS


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_not_analytic_is_named(name: str) -> None:
    report = gradcheck(PAIRS[name], X, rng=0)
    assert {row.method for row in report.failures} == {"complex", "adjoint"}, str(report)
    (note,) = report.notes
    assert ANALYTIC in note
    assert name in note


@pytest.mark.parametrize("name", ["x.var()", "np.linalg.norm"])
def test_what_gives_real_numbers_is_named(name: str) -> None:
    size, slope = SIZES[name]
    report = gradcheck((lambda x: (size(x), x), lambda dy, x: dy * slope(x)), X, rng=0)
    assert report.passed
    (note,) = report.notes
    assert note.startswith("no complex step, differences instead: the forward gave a real y")
    assert name in note
