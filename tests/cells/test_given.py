"""The recurrences over given pre-activations equal the layers without their input matrices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import (
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
)
from numpy_xlstm.layers import LSTMSequence
from numpy_xlstm.numerics import Array
from tests.variants import VARIANTS, Case, Sizes, Variant, assert_close, make, sizes

GATED = [variant for variant in VARIANTS if not variant.is_mlstm]


class Pair(NamedTuple):
    forward: Callable[..., Any]
    backward: Callable[..., Any]


LSTM_PAIR = Pair(lstm_recurrent, lstm_recurrent_backward)
SLSTM_PAIR = Pair(slstm_recurrent, slstm_recurrent_backward)


def pair_of(variant: Variant) -> Pair:
    return LSTM_PAIR if variant.sequence is LSTMSequence else SLSTM_PAIR


def weights(case: Case) -> tuple[Array, Array, Array]:
    W, R, b = (case.layer.params[name] for name in "WRb")
    return W, R.reshape(-1, 4 * R.shape[-1], R.shape[-1]), b


@given(st.sampled_from(GATED), sizes, st.booleans())
def test_the_layer_is_a_product_and_the_recurrence(
    variant: Variant, s: Sizes, with_lengths: bool
) -> None:
    case, pair = make(variant, s), pair_of(variant)
    W, R, b = weights(case)
    lengths = case.rng.integers(0, s.T + 1, s.B) if with_lengths else None
    dy, dstate = case.cotangents()
    y, after, cache = case.layer.forward(case.x, case.state, lengths=lengths)
    Wx = case.x @ W.T + b
    got, last, kept = pair.forward(Wx, R, case.state, lengths=lengths, **variant.options)
    assert_close((got, *last), (y, *after), 1e-12)
    dx, dstate0, grads = case.layer.backward(dy, cache, dstate)
    dWx, dR, dfirst = pair.backward(dy, kept, dstate)
    dW = np.einsum("btg,btd->gd", dWx, case.x)
    found = (dWx @ W, *dfirst, dW, dR, dWx.sum((0, 1)))
    shape = grads["R"].shape
    expected = (dx, *dstate0, grads["W"], grads["R"].reshape(R.shape), grads["b"])
    assert dR.shape == R.shape
    assert dR.reshape(shape).shape == shape
    assert_close(found, expected, 1e-11, 1e-12)


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("NH", [1, 2])
@pytest.mark.parametrize("pair", [LSTM_PAIR, SLSTM_PAIR])
def test_arguments_are_not_written(pair: Pair, NH: int, B: int) -> None:
    rng, T, D = np.random.default_rng(0), 4, 3
    Wx, R = rng.standard_normal((B, T, 4 * NH * D)), rng.standard_normal((NH, 4 * D, D))
    state = pair.forward(Wx, R)[1]
    lengths = rng.integers(0, T + 1, B)
    dy, dstate = rng.standard_normal((B, T, NH * D)), state._replace(h=state.h + 1)
    arrays = [Wx, R, lengths, dy, *state, *dstate]
    before = [array.copy() for array in arrays]
    _, _, cache = pair.forward(Wx, R, state, lengths=lengths)
    pair.backward(dy, cache, dstate)
    assert_close(arrays, before, 0.0)
