"""Correct layers that no reference method can check; the report gives the reason."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.gradcheck import Report
from numpy_xlstm.numerics import Array

RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 2))
ANALYTIC = "is the forward analytic as written?"


def _narrow(a: Array, dtype: Any = np.float32) -> Array:
    """Convert an array to float32 or complex64."""
    return a.astype(np.result_type(dtype, np.complex64) if a.dtype.kind == "c" else dtype)


class Narrow:
    """y = tanh(x W), where some of it is rounded to float32 on the way."""

    def __init__(self, where: str, dtype: Any = np.float64, real: bool = False) -> None:
        self.params = {"W": W.astype(dtype)}
        self.where, self.real = where, real

    def forward(self, x: Array) -> Any:
        W = self.params["W"]
        dtype = np.result_type(x, W)
        if self.real and dtype.kind == "c":
            raise TypeError("expected real numbers")
        x = _narrow(x).astype(dtype) if self.where == "x" else x
        W = _narrow(W).astype(dtype) if self.where == "W" else W
        h = _narrow(x @ W) if self.where == "x, W" else x @ W
        y = np.tanh(h).astype(dtype)
        return y, (x, y)

    def backward(self, dy: Array, cache: Any) -> Any:
        x, y = cache
        dh = dy * (1 - y**2)
        return dh @ self.params["W"].T, {"W": x.T @ dh}


def _rounded(report: Report) -> str:
    """Return the tensors that the report calls rounded."""
    found = [note for note in report.notes if "to float32 or a narrower dtype" in note]
    return found[0].removeprefix("the forward rounds ").split(" to ")[0].replace("W, x", "x, W")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("where", "real"), [("x", False), ("W", False), ("x, W", False), ("x, W", True)]
)
def test_float32_inside_is_named(where: str, dtype: Any, real: bool) -> None:
    report = gradcheck(Narrow(where, dtype, real), X.astype(dtype), rng=0)
    assert not report.passed
    assert _rounded(report) == where, str(report)
    assert ANALYTIC not in str(report)


def test_float32_inside_is_named_where_no_difference_can_tell() -> None:
    def forward(x: Array) -> Any:
        if x.dtype.kind == "c":
            raise TypeError("expected real numbers")
        return np.tanh(_narrow(x)).astype(float), x

    statuses = set()
    for seed in range(10):
        x = np.random.default_rng(seed).standard_normal(100)
        report = gradcheck((forward, lambda dy, x: dy / np.cosh(x) ** 2), x, rng=seed)
        statuses.add(report.rows[0].status)
        assert _rounded(report) == "x", str(report)
        assert not report.passed
    assert statuses == {"kink"}


def test_nothing_is_called_rounded_that_is_not() -> None:
    class Wrong(Narrow):
        def backward(self, dy: Array, cache: Any) -> Any:
            dx, grads = super().backward(dy, cache)
            return 1.5 * dx, grads

    assert gradcheck(Narrow(""), X, rng=0).passed
    for x in (X, 0 * X, 1e-12 * X):
        report = gradcheck(Wrong(""), x, rng=0)
        assert report.failures
        assert "float32" not in str(report)


def test_a_gradient_of_what_the_forward_ignores_is_not_called_rounded() -> None:
    pair = (lambda a, z: (2 * z, None)), (lambda dy, cache: (dy, 2 * dy))
    report = gradcheck(pair, X, X + 1, rng=0)
    assert {row.tensor for row in report.failures} >= {"a"}
    assert "float32" not in str(report)


def test_a_forward_that_refuses_all_other_points_is_reported_all_the_same() -> None:
    def forward(x: Array) -> Any:
        if x.dtype.kind == "f" and not np.array_equal(x, X):
            raise ValueError("expected X")
        return x**2, x

    report = gradcheck((forward, lambda dy, x: 3 * x * dy), X, rng=0)
    assert {row.method for row in report.failures} == {"complex step", "adjoint"}
    assert report.notes == ()


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
    report = gradcheck(PAIRS[name], X, rng=1)  # rng=0 drew X
    assert {row.method for row in report.failures} == {"complex step", "adjoint"}, str(report)
    (note,) = report.notes
    assert ANALYTIC in note
    assert name in note


@pytest.mark.parametrize("name", ["x.var()", "np.linalg.norm"])
def test_what_gives_real_numbers_is_named(name: str) -> None:
    size, slope = SIZES[name]
    pair = (lambda x: (size(x), x)), (lambda dy, x: dy * slope(x))
    report = gradcheck(pair, X, rng=0)
    assert report.passed
    assert {row.method for row in report.rows} == {"finite differences", "adjoint"}
    (note,) = report.notes
    assert note.startswith("no complex step, finite differences instead: the forward gave a real y")
    assert name in note
