"""Batches of sequences of different lengths: the values of padding have no effect."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import sLSTM
from tests.variants import Sizes, Variant, assert_close, make, sizes, variants


@given(variants, sizes, st.integers(0, 2**32 - 1))
def test_each_row_is_as_if_it_were_alone(variant: Variant, s: Sizes, seed: int) -> None:
    case = make(variant, s)
    lengths = np.random.default_rng(seed).integers(0, s.T + 1, s.B)
    dy, dstate = case.cotangents()
    y, last, cache = case.layer.forward(case.x, case.state, lengths=lengths)
    dx, dstate0, grads = case.layer.backward(dy, cache, dstate)
    total = {name: np.zeros_like(grad) for name, grad in grads.items()}
    for row, length in enumerate(lengths):
        cut = np.s_[row : row + 1, :length]
        y_row, last_row, cache_row = case.layer.forward(case.x[cut], _row(case.state, row))
        dx_row, dstate0_row, grads_row = case.layer.backward(dy[cut], cache_row, _row(dstate, row))
        assert_close(y[cut], y_row, 1e-12, 1e-14)
        assert_close(_row(last, row), last_row, 1e-12, 1e-14)
        assert_close(dx[cut], dx_row, 1e-11, 1e-12)
        assert_close(_row(dstate0, row), dstate0_row, 1e-11, 1e-12)
        assert not y[row, length:].any()
        assert not dx[row, length:].any()
        for name, grad in grads_row.items():
            total[name] += grad
    scale = max(float(np.abs(grad).max()) for grad in total.values())
    assert_close(tuple(grads.values()), tuple(total.values()), 1e-11, 1e-12 * (1 + scale))


@given(variants, sizes)
def test_values_of_padding_do_not_matter(variant: Variant, s: Sizes) -> None:
    case = make(variant, s)
    dy, dstate = case.cotangents()
    lengths = np.full(s.B, s.T // 2)
    other = case.x.copy()
    other[:, s.T // 2 :] = 1e160  # whose products overflow
    results = []
    for x in (case.x, other):
        y, last, cache = case.layer.forward(x, case.state, lengths=lengths)
        dx, dstate0, grads = case.layer.backward(dy, cache, dstate)
        results.append((y, last, dx, dstate0, tuple(grads.values())))
    assert_close(results[0], results[1], 0.0)


def _row(tree: Any, row: int) -> Any:
    if tree is None:
        return None
    return type(tree)(*(None if a is None else a[row : row + 1] for a in tree))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_that_takes_no_step_keeps_the_zero_state_without_a_warning(dtype: Any) -> None:
    layer = sLSTM(1, 1, dtype=dtype, rng=np.random.default_rng(0))
    layer.params["b"][0] = -800  # i′ underflows; with n₋ = 0, padding contains 0/0
    zero = np.zeros((1, 1), dtype)
    y, state, cache = layer.forward(np.zeros((1, 3, 1), dtype), (zero,) * 4, lengths=np.array([0]))
    assert not y.any()
    assert not any(part.any() for part in state)
    _, dstate0, _ = layer.backward(np.ones_like(y), cache, (zero + 1, zero + 2, zero + 3, zero + 4))
    assert [float(part[0, 0]) for part in dstate0] == [1, 2, 3, 4]
