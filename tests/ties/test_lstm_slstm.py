"""LSTM and sLSTM at ties, from empty and zero states, in any order of memory, and one step."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import kernels
from numpy_xlstm.cells.gates import log_gate
from numpy_xlstm.cells.slstm import sLSTMCell, sLSTMState
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.kernels import scan, slstm, slstm_recurrent, slstm_recurrent_backward
from numpy_xlstm.layers.xlstm import sLSTM
from tests.ties.test_mlstm import only_m
from tests.ties.test_other_cells import assert_same


@pytest.mark.parametrize(("dtype", "f"), [(np.float64, 40.0), (np.float32, 17.5)])
@pytest.mark.parametrize("gate", ["sigmoid", "exp"])
def test_a_near_tie_sends_the_gradient_to_the_winner(dtype: Any, f: float, gate: str) -> None:
    """log f = log σ(40) = −4e-18 is less than ĩ = 0, although f′ rounds to 1."""
    Wx, R = np.zeros((1, 2, 4), dtype), np.zeros((1, 4, 1), dtype)
    Wx[..., 1] = f if gate == "sigmoid" else -np.exp(-f)
    _, state, cache = slstm_recurrent(Wx, R, forget_gate=gate)
    dWx, _, _ = slstm_recurrent_backward(np.zeros((1, 2, 1), dtype), cache, only_m(state))
    assert np.exp(log_gate(Wx[0, 1, 1], gate)) == 1
    assert state.m == 0
    assert dWx[0, :, 0].tolist() == [0, 1]
    assert not dWx[..., 1:].any()


def test_a_tie_goes_to_the_past() -> None:
    Wx, R = np.zeros((1, 3, 4)), np.zeros((1, 4, 1))
    Wx[0, 0, 0] = 0.5
    Wx[0, 1:, 0] = Wx[0, 1:, 1] = [1.0, 2.0]
    Wx[0, 1, 1] = 0.5
    Wx[0, 2, 1] = 1.0
    _, state, cache = slstm_recurrent(Wx, R, forget_gate="exp")
    dWx, *_ = slstm_recurrent_backward(np.zeros((1, 3, 1)), cache, only_m(state))
    assert state.m == 2
    assert dWx[0, :, 0].tolist() == [1, 0, 0]
    assert dWx[0, :, 1].tolist() == [0, 1, 1]


def test_a_first_step_that_underflows_because_of_the_previous_output() -> None:
    """With R h₋ = −800 for the input gate, e^−800 is 0, and n would be 0."""
    cell = sLSTMCell(1, 2)
    for name, array in cell.params.items():
        array[...] = 0 if name == "R" else np.linspace(-1, 1, array.size).reshape(array.shape)
    cell.params["R"][0, :2, 0] = -800, 1
    layer = sLSTM(1, 2).with_params(cell.params)
    zero, x = np.zeros((1, 2)), np.ones((1, 3, 1))
    state = sLSTMState(zero + 1, zero, zero, zero)
    y, last, cache = layer.forward(x, state)
    expected = unroll(cell, x, state)
    assert_same((y, last), expected[:2], 1e-14)
    got = layer.backward(y, cache, last)
    wanted = unroll_backward(y, expected[2], last)
    assert_same(got[:2], wanted[:2], 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("gate", "m", "n"), [("sigmoid", 0, np.exp(-1)), ("exp", -1, 1)])
def test_a_zero_memory_starts_afresh_by_the_log_of_its_gate(
    gate: str, m: float, n: float, dtype: Any
) -> None:
    """ĩ = −1 is 1 below log σ(800) = 0, where nothing underflows, and 801 below f̃ = 800."""
    Wx, R = np.array([[[-1, 800, 0.5, 0.5]]], dtype), np.zeros((1, 4, 1), dtype)
    cell = sLSTMCell(4, 1, forget_gate=gate, dtype=dtype)
    cell = cell.with_params({"W": np.eye(4, dtype=dtype), "R": R, "b": Wx[0, 0] * 0})
    state = cell.init_state(1)
    state = state._replace(m=np.zeros_like(state.m))
    y, last, _ = slstm_recurrent(Wx, R, state, forget_gate=gate)
    assert_same((y, last), unroll(cell, Wx, state)[:2], 1e-6)
    np.testing.assert_allclose([last.m.item(), last.n.item()], [m, n], rtol=1e-6)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("empty", [0.0, 0.5, 1.0])
def test_a_decode_step_is_a_step_of_the_sequence(
    empty: float, dtype: Any, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if some or all entries are empty and their i′ would underflow."""
    if not fast:
        for module in (slstm, scan):
            monkeypatch.setattr(module, "compiled", lambda dtype: False)
    rng = np.random.default_rng(0)
    h, c, n, m = rng.uniform(0.5, 1, (4, 3, 8)).astype(dtype)
    fresh = rng.random(n.shape) < empty
    c, n, m = np.where(fresh, 0, c), np.where(fresh, 0, n), np.where(fresh, dtype(2000), m)
    gates = rng.standard_normal((3, 1, 32)).astype(dtype)
    state = sLSTMState(h, c, n, m)
    _, expected, _ = slstm_recurrent(gates, np.zeros((1, 32, 8), dtype), state)
    found = slstm.slstm_step(gates[:, 0].reshape(3, 4, 8).swapaxes(0, 1).copy(), state)
    assert (expected.m < 10).all()
    assert_same(found, expected, 4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
@pytest.mark.parametrize("name", ["lstm", "slstm"])
def test_the_order_of_arrays_in_memory_does_not_matter(name: str, dtype: Any) -> None:
    """R may be a transposed view, for example from a checkpoint."""
    forward, backward = (getattr(kernels, f"{name}_recurrent{end}") for end in ("", "_backward"))
    rng = np.random.default_rng(3)
    Wx, R, dy = (rng.standard_normal(s).astype(dtype) for s in ((2, 5, 24), (2, 12, 3), (2, 5, 6)))
    results = []
    for order in (np.ascontiguousarray, np.asfortranarray):
        y, state, cache = forward(order(Wx), order(R))
        results.append((y, state, backward(order(dy), cache, state)))
    assert_same(results[1], results[0], 0)
