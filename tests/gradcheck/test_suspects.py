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


def _over(size: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """x / size(x)."""
    return lambda x: (x / size(x), x)


def _by_difference(forward: Callable[[Array], Any]) -> Callable[[Array, Array], Array]:
    """The exact gradient of a row of x / size(x), by a size that grows with x."""

    def backward(dy: Array, x: Array) -> Array:
        y, _ = forward(x)
        size = (x / y).flat[0]
        if np.isclose(size, np.linalg.norm(x)):
            slope = x / size
        elif np.isclose(size, x.var()):
            slope = 2 * (x - x.mean()) / x.size
        else:
            slope = (x - x.mean()) / x.size / size
        return np.asarray(dy / size - (dy * x).sum() / size**2 * slope)

    return backward


NORMS = {
    "np.linalg.norm": _over(np.linalg.norm),
    "x.var()": _over(lambda x: x.var()),
    "x.std()": _over(lambda x: x.std()),
}
SIGNS = {
    "np.sign": (lambda x: (x + x * np.sign(x), x), lambda dy, x: dy * (1 + np.sign(x))),
    "np.abs": (lambda x: (x / (1 + np.abs(x)), x), lambda dy, x: dy / (1 + np.abs(x)) ** 2),
}
PAIRS: dict[str, Any] = {name: (f, _by_difference(f)) for name, f in NORMS.items()} | SIGNS


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_not_analytic_is_named(name: str) -> None:
    report = gradcheck(PAIRS[name], X, rng=0)
    assert {row.method for row in report.failures} == {"complex", "adjoint"}, str(report)
    (note,) = report.notes
    assert ANALYTIC in note
    assert name in note


@pytest.mark.parametrize(
    ("name", "forward"), [("x.var()", lambda x: (x.var(), x)), ("np.linalg.norm", None)]
)
def test_what_gives_real_numbers_is_named(name: str, forward: Any) -> None:
    forward = forward or (lambda x: (np.linalg.norm(x), x))
    backward = {
        "x.var()": lambda dy, x: dy * 2 * (x - x.mean()) / x.size,
        "np.linalg.norm": lambda dy, x: dy * x / np.linalg.norm(x),
    }[name]
    report = gradcheck((forward, backward), X, rng=0)
    assert report.passed
    (note,) = report.notes
    assert note.startswith("no complex step, differences instead: the forward gave a real y")
    assert name in note
