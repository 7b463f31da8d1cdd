"""The recurrences over given pre-activations beside the vanilla backend of FlashRNN, in float64.

Its sLSTM takes n for at least 1. From n₀ ≥ 1 on that is never the case here either: one of i′ and
f′ is 1, so that n never falls below 1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    LSTMState,
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
    sLSTMState,
)
from tests.variants import assert_close

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
vanilla = pytest.importorskip(
    "flashrnn.flashrnn.vanilla",
    reason="flashrnn (the extra 'peers') is not installed",
    exc_type=ImportError,
)

PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any], type[Any]]] = {
    "lstm": (lstm_recurrent, lstm_recurrent_backward, LSTMState),
    "slstm": (slstm_recurrent, slstm_recurrent_backward, sLSTMState),
}


@pytest.mark.parametrize("function", PAIRS)
@pytest.mark.parametrize(("B", "T", "NH", "DH"), [(1, 1, 1, 1), (2, 7, 2, 3), (3, 20, 3, 2)])
def test_states_and_gradients(function: str, B: int, T: int, NH: int, DH: int) -> None:
    rng, H = np.random.default_rng(T), NH * DH
    forward, backward, kind = PAIRS[function]
    Wx, R = rng.standard_normal((B, T, 4 * H)), rng.standard_normal((NH, 4 * DH, DH))
    state = rng.standard_normal((len(kind._fields), B, H))
    if function == "slstm":
        state[2] = 1 + np.abs(state[2])

    theirs = (
        torch.tensor(Wx.reshape(B, T, 4, NH, DH).swapaxes(0, 1).copy(), requires_grad=True),
        torch.tensor(state.reshape(-1, B, NH, DH).swapaxes(0, 1)[None].copy(), requires_grad=True),
        torch.tensor(R.reshape(NH, 4, DH, DH).transpose(0, 3, 1, 2).copy(), requires_grad=True),
    )
    pointwise = vanilla.flashrnn_pointwise_function_registry[function]
    b = torch.zeros(4, NH, DH, dtype=torch.float64)
    states, last = vanilla.flashrnn_forward(*theirs, b, pointwise)
    y, after, cache = forward(Wx, R, kind(*state))
    expected = last[0].detach().numpy().swapaxes(0, 1).reshape(state.shape)
    expected_y = states[:, :, 0].detach().numpy().swapaxes(0, 1).reshape(y.shape)
    assert_close((y, *after), (expected_y, *expected), 1e-13)

    dy, dstate = rng.standard_normal(y.shape), rng.standard_normal(state.shape)
    loss = (states[:, :, 0] * torch.tensor(dy.swapaxes(0, 1).reshape(T, B, NH, DH).copy())).sum()
    loss = loss + (last[0] * torch.tensor(dstate.reshape(-1, B, NH, DH).swapaxes(0, 1))).sum()
    loss.backward()
    dWx, dstates, dR = (tensor.grad.numpy() for tensor in theirs)
    expected = (
        dWx.swapaxes(0, 1).reshape(Wx.shape),
        dR.transpose(0, 2, 3, 1).reshape(R.shape),
        *dstates[0].swapaxes(0, 1).reshape(state.shape),
    )
    got = backward(dy, cache, kind(*dstate))
    assert_close((*got[:2], *got[2]), expected, 1e-12, 1e-13)
