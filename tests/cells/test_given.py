"""The recurrences over given pre-activations equal the layers without their input matrices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import (
    LSTMState,
    gradcheck,
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
    sLSTMState,
)
from numpy_xlstm.errors import CacheError, DTypeError, NonFiniteError, OptionError, ShapeError
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


@pytest.mark.parametrize("variant", GATED, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_gradients(variant: Variant, seed: int) -> None:
    s = Sizes(B=2, T=4, D=1, NH=2, DH=2, DK=1, with_state=True, eps=0.0, seed=seed)
    case, pair = make(variant, s), pair_of(variant)
    NH, _, DH = weights(case)[1].shape
    Wx = case.rng.standard_normal((s.B, s.T, 4 * NH * DH))
    R = case.rng.standard_normal((NH, 4 * DH, DH))

    def forward(Wx: Array, R: Array, state: Any) -> Any:
        return pair.forward(Wx, R, state, **variant.options)

    report = gradcheck((forward, pair.backward), Wx, R, case.state, rng=seed, rtol=1e-12)
    assert report.passed, str(report)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_are_left_alone_and_dtypes_are_kept(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    Wx, R = rng.standard_normal((2, 5, 16)).astype(dtype), rng.standard_normal((2, 8, 2))
    R = R.astype(dtype)
    kept = Wx.copy(), R.copy()
    y, state, cache = slstm_recurrent(Wx, R)
    dWx, dR, dstate0 = slstm_recurrent_backward(y, cache)
    for array in (y, *state, dWx, dR, *dstate0):
        assert array.dtype == dtype
    assert (Wx == kept[0]).all()
    assert (kept[1] == R).all()
    again = slstm_recurrent_backward(y, cache)
    assert_close(again, (dWx, dR, dstate0), 0.0)


GOOD = (np.zeros((2, 3, 16)), np.zeros((2, 8, 2)))


@pytest.mark.parametrize("forward", [lstm_recurrent, slstm_recurrent])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((GOOD[0][0], GOOD[1]), ShapeError, r"Wx: expected shape \(batch, time, 16\); got \(3, 1"),
        ((GOOD[0][..., :15], GOOD[1]), ShapeError, r"Wx: expected shape \(batch, time, 16\)"),
        ((GOOD[0][:0], GOOD[1]), ShapeError, "Wx: expected a batch of at least 1"),
        ((GOOD[0], GOOD[1][:, :6]), ShapeError, r"R: expected shape \(NH, 4·DH, DH\); got \(2, 6"),
        ((GOOD[0], GOOD[1][0]), ShapeError, r"R: expected shape \(heads, 4\*DH, DH\); got \(8, 2"),
        ((GOOD[0], GOOD[1][:0]), ShapeError, r"R: expected shape .* got \(0, 8, 2\)"),
        ((GOOD[0].astype(np.float32), GOOD[1]), DTypeError, "Wx: expected float64"),
        ((GOOD[0].tolist(), GOOD[1]), DTypeError, "Wx: expected a NumPy array; got list"),
        ((GOOD[0] * np.nan, GOOD[1]), NonFiniteError, "Wx: expected finite"),
        ((GOOD[0], GOOD[1] + np.inf), NonFiniteError, "R: expected finite"),
        ((*GOOD, (GOOD[0],)), ShapeError, "state: expected a tuple .*; got 1 entries"),
        ((*GOOD, np.array(0.0)), ShapeError, "state: expected a tuple .*; got an array of shape"),
    ],
)
def test_bad_arguments(
    forward: Callable[..., Any], arguments: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        forward(*arguments)


def test_other_bad_arguments() -> None:
    with pytest.raises(OptionError, match="forget_gate: expected one of 'sigmoid', 'exp'"):
        slstm_recurrent(*GOOD, forget_gate="tanh")
    with pytest.raises(OptionError, match="lengths: expected integers from 0 to T = 3"):
        lstm_recurrent(*GOOD, lengths=np.array([4, 0]))
    wrong = LSTMState(np.zeros((2, 4)), np.zeros((3, 4)))
    with pytest.raises(ShapeError, match=r"state.c: expected shape \(2, 4\); got \(3, 4\)"):
        lstm_recurrent(*GOOD, wrong)
    y, _, cache = slstm_recurrent(*GOOD)
    with pytest.raises(CacheError, match=r"expected the LSTMScanCache that .*; got sLSTMScanCache"):
        lstm_recurrent_backward(y, cache)  # type: ignore[arg-type]
    with pytest.raises(CacheError, match=r"expected the sLSTMScanCache that .*; got tuple"):
        slstm_recurrent_backward(y, ())  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="dy: expected shape"):
        slstm_recurrent_backward(y[:1], cache)
    dstate = sLSTMState(*np.full((4, 2, 4), np.nan))
    with pytest.raises(NonFiniteError, match=r"dstate\.h"):
        slstm_recurrent_backward(y, cache, dstate)


def test_no_steps() -> None:
    rng = np.random.default_rng(0)
    state = sLSTMState(*np.abs(rng.standard_normal((4, 2, 4))))
    y, after, cache = slstm_recurrent(GOOD[0][:, :0], GOOD[1], state)
    assert y.shape == (2, 0, 4)
    assert_close(after, state, 0.0)
    dWx, dR, dstate0 = slstm_recurrent_backward(y, cache, state)
    assert dWx.shape == (2, 0, 16)
    assert not dR.any()
    assert_close(dstate0, state, 1e-14)


def test_heads_see_only_themselves() -> None:
    rng = np.random.default_rng(0)
    Wx, R = rng.standard_normal((1, 4, 16)), rng.standard_normal((2, 8, 2))
    y = lstm_recurrent(Wx, R)[0]
    R[1] += 1
    other = lstm_recurrent(Wx, R)[0]
    assert (y[..., :2] == other[..., :2]).all()
    assert (y[:, 1:, 2:] != other[:, 1:, 2:]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
def test_padding_may_hold_any_number(forget_gate: str, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    Wx, R = rng.standard_normal((2, 5, 16)).astype(dtype), rng.standard_normal((2, 8, 2))
    R, lengths = R.astype(dtype), np.array([2, 5])
    far = Wx.copy()
    far[0, 2:] = 0.3 * np.finfo(dtype).max
    found = []
    for inputs in (Wx, far):
        y, last, cache = slstm_recurrent(inputs, R, lengths=lengths, forget_gate=forget_gate)
        found.append((y, *last, *slstm_recurrent_backward(y, cache)[:2]))
    for near, beyond in zip(*found, strict=True):
        np.testing.assert_array_equal(near, beyond)
