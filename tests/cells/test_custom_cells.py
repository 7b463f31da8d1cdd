"""Both GRUs, Elman, peephole and projected LSTM: 50 digits, special cases.

``test_gradients.py`` and ``test_properties.py`` have their gradients and sequences.
"""

from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from numpy_xlstm.cells.gru_original import OriginalGRUCell
from numpy_xlstm.cells.unroll import unroll
from tests.cells.custom_cells import CUSTOM_CELLS, build, exactly, plain_step
from tests.variants import assert_close

custom_cells = pytest.mark.parametrize("custom", CUSTOM_CELLS)


def _error(got: Any, expected: Any) -> float:
    """Return the largest error relative to the largest number; a longdouble is two floats."""
    exact = [mpf(float(v)) + mpf(float(v - float(v))) for v in got]
    distance = max(abs(a - b) for a, b in zip(exact, expected, strict=True))
    return float(distance / max(abs(b) for b in expected))


@custom_cells
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_values_are_those_of_the_equations_in_50_digits(custom: str, dtype: Any) -> None:
    cell, xs, state, _ = build(custom, 2, 6, 3, 4, dtype=dtype)
    ys, last, _ = unroll(cell, xs, state)
    assert {a.dtype for a in (ys, *last)} == {np.dtype(dtype)}
    for row in range(2):
        expected = [exactly(part[row]) for part in state]
        for t in range(6):
            expected = plain_step(custom, cell.params, exactly(xs[row, t]), expected)
            assert _error(ys[row, t], expected[0]) < 30 * np.finfo(dtype).eps
        for part, value in zip(last, expected, strict=True):
            assert _error(part[row], value) < 30 * np.finfo(dtype).eps


def test_a_gru_with_a_diagonal_map_is_the_original_one() -> None:
    """Where R_n is diagonal and b′_n is 0, r ∘ (R_n h₋) and R_n (r ∘ h₋) are the same."""
    cell, xs, state, rng = build("GRU", 2, 1, 3, 4, seed=6)
    p = cell.params
    p["R"][8:], p["b_h"][8:] = np.diag(rng.standard_normal(4)), 0
    params = {"W": p["W"], "R": p["R"], "b": p["b"] + p["b_h"]}
    original = OriginalGRUCell(3, 4).with_params(params)
    x, dh = xs[:, 0], rng.standard_normal((2, 4))
    results = []
    for each in (cell, original):
        h, _, cache = each.forward(x, state)
        dx, dstate0, grads = each.backward(dh, cache)
        results.append((h, dx, dstate0.h, grads["W"], grads["R"][:8], grads["b"]))
    assert_close(results[0], results[1], 1e-13)


def test_a_gru_that_writes_next_to_nothing_keeps_all_digits() -> None:
    cell, xs, _, _ = build("GRU", 1, 1, 3, 4, seed=7)
    cell.params["b"][4:8] = np.linspace(35, 45, 4)
    h, _, cache = cell.forward(xs[:, 0])
    nothing = [[mpf(0)] * 4]
    (expected,) = plain_step("GRU", cell.params, exactly(xs[0, 0]), nothing)
    assert 0 < np.abs(h).max() < 1e-13
    assert max(_error([a], [b]) for a, b in zip(h[0], expected, strict=True)) < 1e-14
    dx, _, _ = cell.backward(np.ones_like(h), cache)
    assert np.abs(dx).min() > 0
