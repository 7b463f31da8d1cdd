"""Ties of a maximum within a difference step: no false alarm, and no wrong gradient passes."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck, mLSTM
from numpy_xlstm.numerics import Array
from tests.gradcheck.layers import of_tensors, real


def _tied(cell: type[Any], seed: int, b_f: float) -> tuple[Any, Array]:
    """log f + m₋ and ĩ = 0 differ by e^−b_f, in every step and head."""
    rng = np.random.default_rng(seed)
    layer = cell(2, 2, num_heads=2, rng=rng)
    for name, array in layer.params.items():
        if name in ("W_i", "b_i", "W_f"):
            array[...] = 0
        elif name == "b_f":
            array[...] = b_f
    return layer, rng.standard_normal((1, 2, 2))


@pytest.mark.parametrize("b_f", [8, 15, 25])
def test_near_ties_are_no_failures(b_f: float, trials: int) -> None:
    for seed in range(trials):
        layer, x = _tied(mLSTM, seed, b_f)
        report = gradcheck(layer, x, rng=seed)
        assert report.passed, f"seed {seed}\n{report}"


@pytest.mark.parametrize(
    ("b_f", "factor"), [(8.0, 1.001), (15.0, 1.001), (25.0, 1.001), (15.0, -1.0), (25.0, 0.0)]
)
def test_near_ties_are_no_excuse(b_f: float, factor: float, trials: int) -> None:
    class Wrong(mLSTM):
        def backward(self, dy: Array, cache: Any, dstate: Any = None) -> Any:
            dx, dstate0, grads = super().backward(dy, cache, dstate)
            return dx, dstate0, {**grads, "W_i": factor * grads["W_i"]}

    for seed in range(trials):
        layer, x = _tied(Wrong, seed, b_f)
        report = gradcheck(layer, x, rng=seed)
        assert {row.tensor for row in of_tensors(report.failures)} == {"W_i"}, str(report)


KINKS: dict[str, tuple[Any, Any, float]] = {
    "abs": (np.abs, lambda x: np.where(x >= 0, 1.0, -1.0), 0.0),
    "clip": (lambda x: np.clip(x, -1, 1), lambda x: 1.0 * (abs(x) < 1), 1.0),
    "maximum": (lambda x: np.maximum(x, 2 * x - 1 / 3), lambda x: 1.0 + (x > 1 / 3), 1 / 3),
}
"""Functions, their slopes, and the places of their kinks."""
DISTANCES = [digit * 10.0**-n for n in range(5, 13) for digit in (1, -5)]


@pytest.mark.parametrize(("function", "slope", "kink"), KINKS.values(), ids=KINKS)
def test_finite_differences_near_a_kink(function: Any, slope: Any, kink: float) -> None:
    for distance in [0.0, *DISTANCES]:
        for x in (np.array([0.7, kink + distance]), np.full(70, kink + distance)):
            x[3::7] += 0.4
            pair = real((lambda x: (function(x), x), lambda dy, x: dy * slope(x)))
            assert not gradcheck(pair, x, rng=1).failures, f"{distance}, {x.size} entries"
        if abs(distance) >= 1e-7:
            wrong = real((pair[0], lambda dy, x: dy * (slope(x) + np.array([0, 1e-3]))))
            report = gradcheck(wrong, np.array([0.7, kink + distance]), rng=1)
            assert "worst at [1]" in report.failures[0].note, f"{distance}\n{report}"


SLOPES = np.array([1.0, -2.0, 3.0, -1.5])
TIES = np.array([2.0, 3.0, 1.0, 2.5])


def _several_ties(distance: float, factor: float = 1.0) -> Any:
    """Σ w max(slope x, −tie) of real x, with another slope at x = 0 than further away."""

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
        report = gradcheck(_several_ties(distance), x, rng=seed)
        assert not report.failures, str(report)
        wrong = _several_ties(distance, 1.001)
        report = gradcheck(wrong, x, rng=seed)
        assert report.failures[0].note.split(";")[0] == "2 of 2 entries"


@pytest.mark.parametrize(("factor", "status"), [(1.0, "ok"), (3.0, "FAIL")])
def test_a_small_kink_on_a_steep_curve(factor: float, status: str) -> None:
    """10 x² + |x| / 10⁴: with a long step, the curve hides the kink."""

    def backward(dy: Array, x: Array) -> Array:
        return dy * (20 * x + factor * np.where(x >= 0, 1e-4, -1e-4))

    pair = (lambda x: (10 * x**2 + 1e-4 * np.abs(x), x)), backward
    report = gradcheck(real(pair), np.array([0.0, 1.0]), rng=0)
    assert report.rows[0].status == status
    assert report.rows[0].note.startswith("1 of 2 at a kink") == (status == "ok")


def _maximum(x: Array) -> tuple[Array, Any]:
    """The largest number of each row, the first at a tie."""
    first = x.argmax(-1)[:, None]
    return np.take_along_axis(x, first, -1)[:, 0], (x, first)


def _to_one(dy: Array, cache: Any) -> Array:
    x, index = cache
    dx: Array = np.zeros_like(x)
    np.put_along_axis(dx, index, dy[:, None], -1)
    return dx


ON_TIES = np.array([0.0, 1.0, -2.0, 0.5, -1.0, 0.0])
ROWS = np.array([[1.0, 1.0, 0.5], [0.2, 0.7, 0.7]])


def on_ties(function: Any, moves: Any) -> tuple[Any, Any, Array]:
    """Return an elementwise function, its backward, which is dy where it moves, and entries."""
    return (lambda x: (function(x), x)), (lambda dy, x: np.where(moves(x), dy, 0)), ON_TIES


TIED: dict[str, tuple[Any, Any, Array]] = {
    "where >": on_ties(lambda x: np.where(x > 0, x, 0), lambda x: x > 0),
    "where >=": on_ties(lambda x: np.where(x >= 0, x, 0), lambda x: x >= 0),
    "maximum": on_ties(lambda x: np.maximum(x, 0), lambda x: x > 0),
    "maximum, 1 at 0": on_ties(lambda x: np.maximum(x, 0), lambda x: x >= 0),
    "clip": on_ties(lambda x: np.clip(x, -1, 1), lambda x: (x > -1) & (x < 1)),
    "clip, 1 at the ends": on_ties(lambda x: np.clip(x, -1, 1), lambda x: abs(x) <= 1),
    "argmax": (_maximum, _to_one, ROWS),
    "max": (lambda x: (x.max(-1), (x, x.argmax(-1)[:, None])), _to_one, ROWS),
}


@pytest.mark.parametrize(("forward", "backward", "x"), TIED.values(), ids=TIED)
def test_exact_ties_are_no_failures(forward: Any, backward: Any, x: Array) -> None:
    for seed in range(5):
        report = gradcheck((forward, backward), x, rng=seed)
        assert report.passed, str(report)
        assert not report.notes


@pytest.mark.parametrize("max_entries", [0, 64])
@pytest.mark.parametrize(("forward", "backward", "x"), TIED.values(), ids=TIED)
def test_exact_ties_are_no_excuse(forward: Any, backward: Any, x: Array, max_entries: int) -> None:
    def wrong(dy: Array, cache: Any) -> Any:
        return 1.001 * backward(dy, cache)

    report = gradcheck((forward, wrong), x, rng=0, max_entries=max_entries)
    assert not report.passed, str(report)
    if max_entries:
        methods = {row.method for row in report.failures}
        assert methods >= {"complex step"}, str(report)


def test_a_slope_outside_of_both_sides_of_a_tie_fails() -> None:
    forward, backward, x = TIED["where >"]

    def wrong(dy: Array, x: Array) -> Array:
        return np.asarray(backward(dy, x) + 2 * dy * (x == 0))

    rows = {row.method: row for row in gradcheck((forward, wrong), x, rng=0).failures}
    assert rows["complex step"].note.startswith("2 of 6 entries, all in axis 0 = 0 or 5; ")
    rows = {row.method: row for row in gradcheck(real((forward, wrong)), x, rng=0).failures}
    assert rows["finite differences"].note.startswith("2 of 6 entries, all in axis 0 = 0 or 5; ")


@pytest.mark.parametrize("scale", [1.0, 1e-20])
def test_a_slope_between_both_sides_of_a_tie_is_at_a_kink(scale: float) -> None:
    forward = on_ties(lambda x: np.where(x > 0, scale * x, 0), None)[0]
    pair = forward, lambda dy, x: scale * dy * np.heaviside(x, 0.5)
    for target in (pair, real(pair)):
        row, *_ = gradcheck(target, ON_TIES, rng=0).rows
        assert (row.status, row.note) == ("ok", "2 of 6 at a kink")


@pytest.mark.parametrize("rounded", [False, True])
def test_many_ties_of_a_large_tensor_leave_it_undecided(rounded: bool) -> None:
    """On a line through several ties, each tie takes its own branch."""
    x = np.random.default_rng(0).standard_normal(100)
    x[::7] = 0

    def forward(x: Array) -> Any:
        y, cache = np.where(x > 0, x, 0), x
        return (y.real if rounded else y), cache

    report = gradcheck((forward, TIED["where >"][1]), x, rng=0)
    assert not report.failures, str(report)
    assert [row.tensor for row in report.undecided] == ["x"]
    assert gradcheck((forward, TIED["where >"][1]), x, rng=0, max_entries=100).passed
