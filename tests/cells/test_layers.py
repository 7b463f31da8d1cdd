"""Behaviour of layers: names, views, layouts, initial values, T = 0, long sequences."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    ElmanCell,
    LSTMCell,
    SequenceLayer,
    gate_rows,
    gradcheck,
    mLSTM,
    mlstm_recurrent,
    mlstm_recurrent_backward,
    sLSTM,
    sLSTMState,
)
from numpy_xlstm.trees import leaves
from tests.variants import VARIANTS, Sizes, Variant, make


def place(layer: Any, gate: str, weights: float | None, bias: float) -> None:
    """Set the bias of a gate, and its weights too."""
    gate_rows(layer.params["b"], gate)[...] = bias
    if weights is not None:
        for name in "WR":
            gate_rows(layer.params[name], gate)[...] = weights


@pytest.mark.parametrize("variant", VARIANTS[:3], ids=str)
def test_gates_are_live_views_in_the_order_i_f_z_o(variant: Variant) -> None:
    layer = make(variant, Sizes(1, 1, 3, 2, 2, 2, False, 0.0, 0)).layer
    H, R = layer.hidden_size, layer.params["R"]
    for n, gate in enumerate("ifzo"):
        rows = slice(n * H, (n + 1) * H)
        for name in "Wb":
            view = gate_rows(layer.params[name], gate)
            assert np.array_equal(view, layer.params[name][rows])
            assert np.shares_memory(view, layer.params[name])
        DH = R.shape[-1]
        expected = R.reshape(-1, 4, DH, DH)[:, n]
        assert np.array_equal(gate_rows(R, gate).reshape(expected.shape), expected)
        assert np.shares_memory(gate_rows(R, gate), R)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_call_of_a_cell_returns_the_output_and_the_state(variant: Variant) -> None:
    case = make(variant, Sizes(2, 1, 3, 2, 2, 2, True, 0.0, 0), step=True)
    h, state, _ = case.layer.forward(case.x, case.state)
    assert str(case.layer(case.x, case.state)) == str((h, state))


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.stabilised], ids=str)
def test_the_first_step_of_an_empty_row_does_not_depend_on_the_row_beside_it(
    variant: Variant,
) -> None:
    """An empty row with ĩ = −120 next to a live row gives NaN if emptiness is decided per batch."""
    case = make(variant, Sizes(2, 1, 3, 2, 2, 2, True, 0.0, 0), dtype=np.float32)
    empty = case.layer.init_state(1)
    state = type(case.state)(
        *(np.concatenate([e, s[1:]]) for e, s in zip(empty, case.state, strict=True))
    )
    for name in ("W_i", "W", "R"):
        if name in case.layer.params:
            case.layer.params[name][...] = 0
    if variant.is_mlstm:
        case.layer.params["b_i"][...] = -120
    else:
        gate_rows(case.layer.params["b"], "i")[...] = -120
    y, _ = case.layer(case.x, state)
    alone, _ = case.layer(case.x[:1])
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y[:1], alone, rtol=1e-6, atol=1e-44)
    assert np.abs(y[0]).max() > (0 if variant.is_mlstm else 0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("i_pre", [-60, -80, -95, -103, -104, -110, -710, -735, -744.5, -745, -2e3])
def test_an_explicit_zero_state_is_empty_however_small_the_input_gate(
    i_pre: float, dtype: Any
) -> None:
    """n = 0 with m = 0, and i′ = e^(ĩ − m) small, subnormal or 0, gives the same as m = −∞."""
    layer = sLSTM(1, 1, rng=np.random.default_rng(0), dtype=dtype)
    place(layer, "i", 0, i_pre)
    place(layer, "f", None, 5)
    place(layer, "o", None, 0)
    zero = np.zeros((1, 1), dtype)
    x = np.ones((1, 2, 1), dtype)
    y, _, cache = layer.forward(x, sLSTMState(zero, zero, zero, zero))
    fresh, _, fresh_cache = layer.forward(x)
    np.testing.assert_allclose(y, fresh, rtol=1e-5 if dtype == np.float32 else 1e-12)
    dy = np.array([[[1.0], [-2.0]]], dtype)
    dx, dstate0, grads = layer.backward(dy, cache, layer.init_state(1)._replace(m=zero + 1))
    for name, array in leaves("", (dx, dstate0, tuple(grads.values()))):
        assert np.isfinite(array).all(), name
    dx, _, _ = layer.backward(dy, cache)
    dx_fresh, _, _ = layer.backward(dy, fresh_cache)
    np.testing.assert_allclose(dx, dx_fresh, rtol=1e-4 if dtype == np.float32 else 1e-11)


@pytest.mark.parametrize("bias", [5.0, 15.0, 25.0, 36.0, 100.0])
@pytest.mark.parametrize("gate", "ifzo")
@pytest.mark.parametrize("unrolled", [False, True])
def test_gradients_of_saturated_gates_keep_their_digits(
    gate: str, bias: float, unrolled: bool
) -> None:
    """σ′ and tanh′ of large arguments are tiny, not 0: each gradient has a small relative error."""
    lstm = SequenceLayer(LSTMCell(1, 1, rng=np.random.default_rng(0)))
    lstm.unrolled = unrolled
    gate_rows(lstm.params["b"], gate)[...] = bias
    report = gradcheck(lstm, np.array([[[0.3]]]), rng=0)
    assert report.passed, str(report)
    _, _, cache = lstm.forward(np.array([[[0.3], [-0.2]]]))
    _, _, grads = lstm.backward(np.array([[[1.0], [-2.0]]]), cache)
    row = "ifzo".index(gate)
    point = lstm.astype(np.complex128)
    point.params["b"][row] += 1e-200j
    moved, _ = point(np.array([[[0.3 + 0j], [-0.2]]]))
    expected = (moved * np.array([[[1.0], [-2.0]]])).sum().imag / 1e-200
    assert expected != 0
    assert abs(grads["b"][row] - expected) <= 1e-12 * abs(expected)


@pytest.mark.parametrize("unrolled", [False, True])
def test_the_slope_of_the_relu_is_0_at_0(unrolled: bool) -> None:
    """As in PyTorch. Without a bias, x = 0 gives pre-activations of exactly 0."""
    layer = SequenceLayer(ElmanCell(2, 3, nonlinearity="relu", rng=np.random.default_rng(0)))
    layer.unrolled = unrolled
    layer.params["b"][...] = 0
    y, _, cache = layer.forward(np.zeros((2, 3, 2)))
    dx, _, grads = layer.backward(np.random.default_rng(1).standard_normal(y.shape), cache)
    assert not y.any()
    assert not dx.any()
    assert not grads["b"].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_mlstm_with_a_query_that_meets_no_key(eps: float, dtype: Any) -> None:
    """q·n exactly 0, with m from −1000 to 1000, forward and backward."""
    rng = np.random.default_rng(0)
    for i_pre in (-1000, -120, -90, 0, 90, 1000):
        q = np.tile(np.array([1, -1], dtype), (1, 1, 3, 1))
        k, v = np.ones((1, 1, 3, 2), dtype), rng.standard_normal((1, 1, 3, 2)).astype(dtype)
        i, f = np.full((1, 1, 3), i_pre, dtype), np.zeros((1, 1, 3), dtype)
        h, state, cache = mlstm_recurrent(q, k, v, i, f, eps=eps)
        dstate = state._replace(m=np.ones((1, 1), dtype))
        found = mlstm_recurrent_backward(v, cache, dstate)
        for name, array in leaves("", (h, state, found)):
            assert np.isfinite(array).all(), (name, i_pre)


def test_the_gradients_of_a_state_taken_for_empty_are_zero() -> None:
    layer = sLSTM(1, 1, rng=np.random.default_rng(0))
    place(layer, "i", 0, -2000)
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    x = np.ones((1, 1, 1))
    _, _, cache = layer.forward(x, sLSTMState(zero, zero, zero, zero))
    dstate = sLSTMState(one, 2 * one, -3 * one, 0.5 * one)
    _, dstate0, grads = layer.backward(np.array([[[1.0]]]), cache, dstate)
    assert dstate0.c == dstate0.n == dstate0.m == 0
    assert grads["b"][1] == 0
    assert grads["b"][0] == pytest.approx(
        0.5, rel=1e-14
    )  # δĩ = δm: m = ĩ there, and c and n do not depend on ĩ


@pytest.mark.parametrize(("dtype", "f_pre"), [(np.float32, 17.0), (np.float64, 37.0)])
def test_a_forget_gate_that_rounds_to_1_still_forgets(dtype: Any, f_pre: float) -> None:
    layer = sLSTM(1, 1, dtype=dtype, rng=np.random.default_rng(0))
    layer.params["W"][...] = 0
    layer.params["R"][...] = 0
    layer.params["b"][...] = [-1e4, f_pre, 0, 0]
    one, zero = np.ones((1, 1), dtype), np.zeros((1, 1), dtype)
    _, state = layer(np.zeros((1, 1000, 1), dtype), (zero, one, one, zero))
    log_f = -np.log1p(np.exp(-f_pre))
    assert 1 / (1 + np.exp(dtype(-f_pre))) == 1
    np.testing.assert_allclose(state.m, 1000 * log_f, rtol=1000 * np.finfo(dtype).eps)


@pytest.mark.parametrize("make", [sLSTM, mLSTM])
def test_without_a_stabiliser_there_is_no_memory(make: Any) -> None:
    """Where m is −inf, the entry is empty for any c and n."""
    rng = np.random.default_rng(0)
    layer = make(3, 4, rng=rng)
    x, state = rng.standard_normal((2, 3, 3)), layer.init_state(2)
    memory = {
        name: rng.standard_normal(getattr(state, name).shape)
        for name in {"c", "C", "n"} & {*state._fields}
    }
    y, after = layer(x, state._replace(**memory))
    expected, empty = layer(x, state)
    np.testing.assert_array_equal(y, expected)
    for got, want in zip(after, empty, strict=True):
        np.testing.assert_array_equal(got, want)


def test_options_of_a_layer_are_those_of_its_cell() -> None:
    layer = mLSTM(3, 4, eps=0.5, forget_gate="exp")
    assert (layer.eps, layer.cell.eps, layer.options["eps"]) == (0.5, 0.5, 0.5)


@pytest.mark.long
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_hundred_thousand_steps(variant: Variant) -> None:
    """Forward and backward give no NaN, infinity or warning for T = 100,000 and gates up to ±50."""
    if variant.options == {"forget_gate": "exp", "input_gate": "sigmoid"}:
        pytest.skip("nothing bounds C in this variant")
    T = 100_000
    case = make(variant, Sizes(1, 1, 2, 1, 2, 2, False, 1e-6, 3), dtype=np.float32)
    for name in ("W", "W_i", "W_f", "W_o"):
        if name in case.layer.params:
            case.layer.params[name][...] = 50 * np.sign(case.layer.params[name])
    x = np.zeros((1, T, 2), np.float32)
    x[0, np.arange(T), case.rng.integers(2, size=T)] = case.rng.uniform(-1, 1, T)
    y, state, cache = case.layer.forward(x)
    dy = case.rng.standard_normal(y.shape).astype(np.float32)
    dx, dstate0, grads = case.layer.backward(dy, cache, case.like(state))
    for name, array in leaves("", (y, state, dx, dstate0, tuple(grads.values()))):
        assert np.isfinite(array).all(), name
