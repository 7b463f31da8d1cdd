"""Ties of a maximum within the step of the differences: no false alarm, and no free pass."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck, mLSTM
from numpy_xlstm.numerics import Array


def _tied(cell: type[Any], seed: int, b_f: float) -> tuple[Any, Array]:
    """log f + m₋ and ĩ = 0 differ by e^−b_f, in every step and head."""
    rng = np.random.default_rng(seed)
    layer = cell(2, 2, 2, rng=rng)
    for name, array in layer.params.items():
        if name in ("W_i", "b_i", "W_f"):
            array[...] = 0
        elif name == "b_f":
            array[...] = b_f
    return layer, rng.standard_normal((2, 3, 2))


@pytest.mark.parametrize(("b_f", "seeds"), [(8, 4), (12, 4), (15, 12), (20, 4), (25, 4)])
def test_near_ties_are_no_failures(b_f: float, seeds: int) -> None:
    for seed in range(seeds):
        layer, x = _tied(mLSTM, seed, b_f)
        report = gradcheck(layer, x, rng=seed, methods=["complex", "difference"])
        assert report.passed, f"seed {seed}\n{report}"


@pytest.mark.parametrize("b_f", [8.0, 15.0, 25.0])
@pytest.mark.parametrize("factor", [1 + 1e-3, -1.0, 0.0])
def test_near_ties_are_no_excuse(b_f: float, factor: float) -> None:
    class Wrong(mLSTM):
        def backward(self, dy: Array, cache: Any, dstate: Any = None) -> Any:
            dx, dstate0, grads = super().backward(dy, cache, dstate)
            return dx, dstate0, {**grads, "W_i": factor * grads["W_i"]}

    for seed in range(3):
        layer, x = _tied(Wrong, seed, b_f)
        report = gradcheck(layer, x, rng=seed, methods=["complex", "difference"])
        assert {row.tensor for row in report.failures} == {"W_i"}, str(report)
        if b_f <= 15:
            by_difference = {row.tensor for row in report.failures if row.method == "difference"}
            assert by_difference == {"W_i"}, str(report)


SLOPES = np.array([1.0, -2.0, 3.0, -1.5])
TIES = np.array([2.0, 3.0, 1.0, 2.5])


def _several_ties(distance: float, factor: float = 1.0) -> Any:
    """Σ w max(slope x, −tie) of real numbers: at x = 0 no outer slope is the one between them."""

    def forward(x: Array) -> Any:
        y = np.maximum(np.multiply.outer(x, SLOPES), -distance * TIES)
        return y.astype(float), x

    def backward(dy: Array, x: Array) -> Array:
        found: Array = np.where(x * SLOPES > -distance * TIES, dy * SLOPES, 0).sum(-1)
        return factor * found

    return forward, lambda dy, x: backward(dy, x[:, None])


@pytest.mark.parametrize("distance", [1e-4, 1e-5, 1e-6, 1e-7])
def test_ties_on_both_sides_without_complex_numbers(distance: float) -> None:
    x = np.array([0.0, 0.7])
    for seed in range(6):
        report = gradcheck(_several_ties(distance), x, rng=seed, methods=["difference"])
        assert not report.failures, str(report)
        wrong = _several_ties(distance, 1.001)
        report = gradcheck(wrong, x, rng=seed, methods=["difference"])
        assert [row.note.split(";")[0] for row in report.failures] == ["2 of 2 entries"]


@pytest.mark.parametrize(("factor", "status"), [(1.0, "ok"), (3.0, "FAIL")])
def test_a_small_kink_on_a_steep_curve(factor: float, status: str) -> None:
    """10 x² + |x| / 10⁴: with a long step, the curve hides the kink."""

    def backward(dy: Array, x: Array) -> Array:
        return dy * (20 * x + factor * np.where(x >= 0, 1e-4, -1e-4))

    pair = (lambda x: (10 * x**2 + 1e-4 * np.abs(x), x)), backward
    report = gradcheck(pair, np.array([0.0, 1.0]), rng=0, methods=["difference"])
    assert report.rows[0].status == status
    assert report.rows[0].note.startswith("1 of 2 at a kink") == (status == "ok")
