"""Each cell, proved with expressions: its backward is the derivative of its forward everywhere.

One step of one row, as the specification computes it, for one unit at every branch and for two
units. At a kink, such as a tie of the maximum in m, nothing is proved.
"""

from typing import Any

import pytest

from tests.proof.cases import layer_of, mapped, run
from tests.proof.numbers import Number, calculate_with
from tests.proof.symbols import Symbolic, derivatives
from tests.variants import EVERY_VARIANT, Variant

WITNESSES = 20
"""Number of points at which every branch must have been met."""

BRANCHES = {
    "maximum": "m is log f + m₋ or log i; the denominator is |q·n| or e^−m",
    "minimum": "log σ(f̃) has its two forms",
    "modulus": "log σ(f̃), tanh′ and |q·n| have two forms",
    "backward": "as in the forward, and the sign of q·n",
    "forward": "a rectified linear unit is on or off",
}
"""Functions in which a cell compares numbers, and what they choose."""


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    calculate_with(Symbolic, monkeypatch)


def specification(variant: Variant, H: int, heads: int = 1) -> Any:
    """Return a layer that takes the step of a cell."""
    layer = layer_of(variant, H, heads)
    return layer.specification or layer


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("variant", EVERY_VARIANT, ids=str)
def test_one_unit_at_every_branch(variant: Variant, empty: bool) -> None:
    layer, proved = specification(variant, 1), set[Any]()
    for seed in range(WITNESSES):
        Number.branches.clear()
        step = run(layer, Symbolic, seed, empty=empty)
        step.backward(step.outputs)  # any cotangents: this finds the branches
        if not Number.branches <= proved:
            proved |= Number.branches
            assert derivatives(step)[1] == []
    assert proved
    assert {(place, not way) for place, way in proved} == proved
    assert {place[0][0] for place, _ in proved} <= BRANCHES.keys()


@pytest.mark.parametrize("heads", [pytest.param(1, marks=pytest.mark.long), 2])
@pytest.mark.parametrize("variant", EVERY_VARIANT, ids=str)
def test_two_units(variant: Variant, heads: int) -> None:
    """Each sum has terms of one kind: two show what holds for any number."""
    if heads == 2 and not variant.has_heads:
        pytest.skip("no heads")
    if "LSTMP" in str(variant):
        pytest.skip("expressions of two projected units have millions of terms: see residues")
    count, wrong = derivatives(run(specification(variant, 2, heads), Symbolic, 0))
    assert count > 40
    assert wrong == []


@pytest.mark.parametrize("factor", [1 + 2.0**-52, 1 - 1e-13])
def test_an_error_that_no_sample_shows(factor: float) -> None:
    step = run(specification(EVERY_VARIANT[0], 1), Symbolic, 0)
    changed = step._replace(backward=lambda d: mapped(lambda _, g: g * factor, step.backward(d)))
    count, wrong = derivatives(changed)
    assert len(wrong) > count / 2
