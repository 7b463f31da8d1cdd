"""Backwards that are correct for cotangents of size 1, but not for much larger or smaller ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.gradcheck import Report
from numpy_xlstm.numerics import Array

RNG = np.random.default_rng(0)
W, X = RNG.standard_normal((3, 4)), RNG.standard_normal((5, 3)) / 2

Change = Callable[[Array], Array]


class Product:
    """y = x W, whose backward may change dy or the gradients."""

    def __init__(
        self, dtype: Any, dy: Change = lambda a: a, gradient: Change = lambda a: a
    ) -> None:
        self.params = {"W": W.astype(dtype)}
        self.changes = dy, gradient

    def forward(self, x: Array) -> Any:
        return x @ self.params["W"], x

    def backward(self, dy: Array, x: Array) -> Any:
        of_dy, of_gradient = self.changes
        dy = of_dy(dy)
        return of_gradient(dy @ self.params["W"].T), {"W": of_gradient(x.T @ dy)}


def _by_norm(a: Array) -> Array:
    norm = np.linalg.norm(a)
    return a * a.dtype.type(20 / norm) if norm > 20 else a


def _if_large(a: Array) -> Array:
    return a if abs(a).max() >= 1e-4 else 0 * a


PLANTS: dict[str, tuple[int, dict[str, Change]]] = {
    "np.clip(grad, −5, 5)": (1, {"gradient": lambda g: np.clip(g, -5, 5)}),
    "np.clip(dy, −10, 10)": (1, {"dy": lambda dy: np.clip(dy, -10, 10)}),
    "a norm clipped at 20": (1, {"dy": _by_norm}),
    "infinity set to 0": (1, {"gradient": lambda g: np.where(abs(g) > 1e6, 0, g)}),
    "if abs(dy).max() < 1e-4: return 0": (-1, {"dy": _if_large}),
    "small entries flushed": (-1, {"gradient": lambda g: np.where(abs(g) < 1e-8, 0, g)}),
}


def _named(report: Report) -> set[str]:
    """Return the signed sizes at which the report finds that the backward is not linear."""
    rows = [row for row in report.failures if row.tensor == "linear in ȳ"]
    start = "the backward is not linear in the size of the cotangent: 2^"
    assert all(row.note.startswith(start) for row in rows), str(report)
    return {row.note.removeprefix(start).split(" ")[0] for row in rows}


@pytest.mark.parametrize(("dtype", "power"), [(np.float32, 32), (np.float64, 40)])
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_what_depends_on_the_size_is_named(
    plant: tuple[int, dict[str, Change]], dtype: Any, power: int
) -> None:
    sign, changes = plant
    report = gradcheck(Product(dtype, **changes), X.astype(dtype), rng=0)
    assert _named(report) == {str(sign * power)}, str(report)
    assert gradcheck(Product(dtype), X.astype(dtype), rng=0).passed


def test_only_the_gradients_that_are_clipped_are_named() -> None:
    class OneClipped(Product):
        def backward(self, dy: Array, x: Array) -> Any:
            dx, grads = super().backward(dy, x)
            return dx, {"W": np.clip(grads["W"], -5, 5)}

    (row,) = gradcheck(OneClipped(float), X / 10, rng=0).failures
    assert row.note.endswith("2^40 ȳ does not give 2^40 times the gradient of W")


def _small(factor: np.float32, limit: float) -> Any:
    """y = factor a + z, whose backward clips the gradient of a."""

    def backward(dy: Array, cache: Any) -> Any:
        return np.clip(factor * dy, -limit, limit), dy

    return (lambda a, z: (factor * a + z, None)), backward


@pytest.mark.parametrize(
    ("factor", "limit", "sizes"), [(1e-4, 1.0, {"32"}), (1e-4, 1e30, set()), (1e-37, 1.0, set())]
)
def test_a_clipped_gradient_that_is_small_next_to_another(
    factor: float, limit: float, sizes: set[str]
) -> None:
    """The last one underflows, which is no failure."""
    x = X.astype(np.float32)
    report = gradcheck(_small(np.float32(factor), limit), x, x, rng=0)
    assert _named(report) == sizes
    assert bool(report.failures) == bool(sizes), str(report)


@pytest.mark.parametrize("nothing", [None, 0, np.zeros(3)])
def test_a_gradient_of_another_shape_below_a_threshold(nothing: Any) -> None:
    def backward(dy: Array, x: Array) -> Any:
        return 2 * x * dy if abs(dy).max() >= 1e-4 else nothing

    assert _named(gradcheck((lambda x: (x**2, x), backward), X, rng=0)) == {"-40"}
