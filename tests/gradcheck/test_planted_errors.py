"""Small mistakes in the results of the backwards of three cells, all of which must be found.

The mistakes in ``tests/mutants`` are changed lines of the cells.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.numerics import Array
from tests.variants import VARIANTS, Case, Sizes, Variant, make

CELLS = {str(v): v for v in VARIANTS}
THREE = [CELLS["LSTMCell"], CELLS["sLSTM-sigmoid"], CELLS["mLSTM-sigmoid-exp"]]
SIZES = Sizes(2, 2, 1, 2, 1, 1, True, 1e-2, 11)

Backward = tuple[Array, Any, dict[str, Array]]
Plant = Callable[[Backward], Backward]


class Spoiled:
    """A layer with a change of the results of its correct backward."""

    def __init__(self, layer: Any, plant: Plant) -> None:
        self.layer, self.plant = layer, plant
        self.params = layer.params

    def with_params(self, params: dict[str, Array]) -> "Spoiled":
        return Spoiled(self.layer.with_params(params), self.plant)

    def forward(self, x: Array, state: Any = None) -> Any:
        return self.layer.forward(x, state)

    def backward(self, dy: Array, cache: Any, dstate: Any = None) -> Backward:
        return self.plant(self.layer.backward(dy, cache, dstate))


def _grad(name: str, change: Callable[[Array], Any]) -> Plant:
    """Change the gradient of one parameter: ``name``, or the corresponding one of mLSTM."""

    def plant(result: Backward) -> Backward:
        dx, dstate0, grads = result
        key = name if name in grads else {"W": "W_f", "R": "W_k", "b": "b_i"}[name]
        return dx, dstate0, grads | {key: change(grads[key])}

    return plant


def _one_entry(g: Array) -> Array:
    g = g.copy()
    g.flat[g.size // 2] *= 1 + 1e-6
    return g


PLANTS: dict[str, Plant] = {
    "a weight's gradient times 1 + 1e-6": _grad("W", lambda g: g * (1 + 1e-6)),
    "one entry times 1 + 1e-6": _grad("R", _one_entry),
    "noise of 1e-9": _grad("W", lambda g: g + 1e-9 * np.abs(g).max()),
    "time reversed": lambda result: (np.ascontiguousarray(result[0][:, ::-1]), *result[1:]),
}


@pytest.mark.parametrize("cell", THREE, ids=str)
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS.keys())
def test_spoiled_results_are_caught(plant: Plant, cell: Variant) -> None:
    case = make(cell, SIZES)
    report = gradcheck(Spoiled(case.layer, plant), *case.inputs, rng=1)
    assert not report.passed, str(report)
    assert report.failures


def test_large_tensors_are_checked_along_directions() -> None:
    def one_entry(g: Array) -> Array:
        g = g.copy()
        g[17, 3] += 1e-3 * np.abs(g).max()
        return g

    case: Case = make(CELLS["LSTMCell"], Sizes(2, 3, 12, 1, 12, 1, True, 0.0, 1))
    assert gradcheck(case.layer, *case.inputs, rng=1).passed
    spoiled = Spoiled(case.layer, _grad("W", one_entry))
    report = gradcheck(spoiled, *case.inputs, rng=1)
    assert report.failures[0].tensor == "W"
    assert report.failures[0].checked == "8 directions"
