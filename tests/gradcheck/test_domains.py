"""Finite differences outside the domain of the forward, and steps below the precision of x."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.numerics import Array
from tests.gradcheck.layers import real

Pair = tuple[Callable[[Array], Any], Callable[[Array, Array], Any]]
PAIRS: dict[str, Pair] = {
    "log": ((lambda x: (np.log(x), x)), (lambda dy, x: dy / x)),
    "sqrt": ((lambda x: (np.sqrt(x), x)), (lambda dy, x: dy / 2 / np.sqrt(x))),
    "x^1.5": ((lambda x: (x**1.5, x)), (lambda dy, x: 1.5 * np.sqrt(x) * dy)),
}
NEAR = [5e-4, 2.0**-11, 2e-4, 1e-5, 1e-9]


def spoiled(pair: Pair, factors: list[float]) -> Pair:
    forward, backward = pair
    return forward, lambda dy, x: backward(dy, x) * factors


@pytest.mark.parametrize("edge", NEAR)
@pytest.mark.parametrize("only_real", [False, True])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_right_functions_pass_in_any_order_of_entries(
    pair: Pair, only_real: bool, edge: float
) -> None:
    for entries in ([edge, 0.5], [0.5, edge], [edge]):
        report = gradcheck(real(pair) if only_real else pair, np.array(entries), rng=0)
        assert report.passed, str(report)


@pytest.mark.parametrize("edge", NEAR)
@pytest.mark.parametrize("only_real", [False, True])
@pytest.mark.parametrize("factor", [1.001, 0.0, -1.0])
def test_a_wrong_gradient_near_the_edge_is_found(
    factor: float, only_real: bool, edge: float
) -> None:
    pair = real(PAIRS["log"]) if only_real else PAIRS["log"]
    for entries, factors in (([edge, 0.5], [factor, 1]), ([0.5, edge], [1, factor])):
        report = gradcheck(spoiled(pair, factors), np.array(entries), rng=0)
        place = factors.index(factor)
        assert f"worst at [{place}]" in report.failures[0].note, str(report)


def test_a_large_tensor_near_the_edge() -> None:
    x = np.random.default_rng(0).random(100) ** 4
    assert gradcheck(PAIRS["log"], x, rng=0).passed
    wrong = spoiled(PAIRS["log"], [*[1.0] * 99, 1.001])
    assert {row.tensor for row in gradcheck(wrong, x, rng=0).failures} >= {"x"}


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_an_entry_on_the_edge_is_called_unchecked(factor: float) -> None:
    """x^1.5 has a slope at 0, but no two-sided difference."""
    pair = spoiled(real(PAIRS["x^1.5"]), [1.0, factor])
    report = gradcheck(pair, np.array([0.0, 0.5]), rng=0)
    unchecked = "1 of 2 entries not checked: no step from there keeps the forward finite"
    assert f"x: {unchecked}, the first at [0]" in "\n".join(report.notes), str(report)
    assert report.passed == (factor == 1.0)
    alone = gradcheck(real(PAIRS["x^1.5"]), np.array([0.0]), rng=0)
    assert not alone.passed
    assert [row.tensor for row in alone.undecided] == ["x"]


def test_nan_of_complex_numbers_alone() -> None:
    """1 / cosh(800)² is 0, but NaN for complex numbers."""

    def forward(x: Array) -> Any:
        with np.errstate(over="ignore"):
            return 1 / np.cosh(x) ** 2, x

    def backward(dy: Array, x: Array) -> Array:
        return np.asarray(-2 * dy * np.tanh(x) * forward(x)[0])

    x = np.array([-800.0, 0.3])
    report = gradcheck((forward, backward), x, rng=0)
    assert report.passed, str(report)
    assert "the forward gave NaN in y for complex inputs" in report.notes[0]
    wrong = gradcheck((forward, lambda dy, x: 1.001 * backward(dy, x)), x, rng=0)
    assert {row.tensor for row in wrong.failures} >= {"x"}


SINE: Pair = (lambda x: (np.sin(x), x)), (lambda dy, x: dy * np.cos(x))


@pytest.mark.parametrize("size", [3e6 + 0.3, 1e8 + 0.1, 1e10 + 0.7])
@pytest.mark.parametrize("max_entries", [0, 64])
def test_a_sine_of_large_numbers(max_entries: int, size: float) -> None:
    x = np.array([size, 0.4])
    for pair in (SINE, real(SINE)):
        report = gradcheck(pair, x, rng=0, max_entries=max_entries)
        assert report.passed, str(report)
        assert {row.status for row in report.rows} == {"ok"}
    for factors in ([1.0, 1 + 1e-6], [1 + 1e-6, 1.0]):
        wrong = spoiled(real(SINE), factors)
        report = gradcheck(wrong, x, rng=0, max_entries=max_entries)
        assert {row.tensor for row in report.failures} >= {"x"}


def test_a_number_for_which_every_step_is_lost() -> None:
    x = np.array([1e15, 0.4])
    assert gradcheck(SINE, x, rng=0).passed
    report = gradcheck(real(SINE), x, rng=0)
    assert report.passed, str(report)
    assert "x: 1 of 2 entries not checked" in "\n".join(report.notes)
