"""The vanilla backend of FlashRNN: outputs, states and all gradients, in float64.

Its sLSTM clamps n to at least 1. With n₀ ≥ 1 this has no effect, because one of i′ and f′ is 1 and
n never falls below 1. In its GRU, R and the biases start with the rows of the candidate, and r and
z have one bias each.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    LSTMState,
    SequenceLayer,
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
    sLSTMState,
)
from numpy_xlstm.numerics import Array
from tests.cells.custom_cells import build
from tests.parity.autograd import Arrays, apart, of_recurrent
from tests.parity.outside.suite import Case

KERNELS: dict[str, Any] = {
    "lstm": (lstm_recurrent, lstm_recurrent_backward, LSTMState),
    "slstm": (slstm_recurrent, slstm_recurrent_backward, sLSTMState),
}
CUSTOM_CELLS = {"gru": "GRU", "elman": "Elman-tanh"}


def _modules(function: str) -> tuple[Any, Any, Any]:
    reason = "{} (the extra 'peers') is not installed"
    torch = pytest.importorskip("torch", reason=reason.format("PyTorch"))
    vanilla = pytest.importorskip(
        "flashrnn.flashrnn.vanilla", reason=reason.format("flashrnn"), exc_type=ImportError
    )
    return torch, vanilla, vanilla.flashrnn_pointwise_function_registry[function]


def with_kernel(function: str, B: int, T: int, NH: int, DH: int, seed: int) -> float:
    """LSTM or sLSTM over given pre-activations."""
    torch, vanilla, pointwise = _modules(function)
    rng, H = np.random.default_rng(seed), NH * DH
    forward, backward, kind = KERNELS[function]

    def ours(Wx: Array, R: Array, *state: Array) -> tuple[Arrays, Callable[..., Arrays]]:
        y, after, cache = forward(Wx, R, kind(*state))

        def gradients(dy: Array, *dafter: Array) -> Arrays:
            dWx, dR, dstate = backward(dy, cache, kind(*dafter))
            return dWx, dR, *dstate

        return (y, *after), gradients

    def theirs(Wx: Any, R: Any, *state: Any) -> list[Any]:
        start = torch.stack(state).reshape(-1, B, NH, DH).swapaxes(0, 1)[None]
        pre = Wx.reshape(B, T, 4, NH, DH).swapaxes(0, 1)
        R = R.reshape(NH, 4, DH, DH).permute(0, 3, 1, 2)
        b = torch.zeros(4, NH, DH, dtype=torch.float64)
        states, last = vanilla.flashrnn_forward(pre, start, R, b, pointwise)
        y = states[:, :, 0].swapaxes(0, 1).reshape(B, T, H)
        return [y, *last[0].swapaxes(0, 1).reshape(-1, B, H)]

    Wx, R = rng.standard_normal((B, T, 4 * H)), rng.standard_normal((NH, 4 * DH, DH))
    state = rng.standard_normal((len(kind._fields), B, H))
    if function == "slstm":
        state[2] = 1 + np.abs(state[2])
    return apart(ours, theirs, (Wx, R, *state))


def with_cell(function: str, B: int, T: int, D: int, H: int, seed: int) -> float:
    """Unrolled GRU or Elman network with W and both biases."""
    torch, vanilla, pointwise = _modules(function)
    cell, xs, state, _ = build(CUSTOM_CELLS[function], B, T, D, H, seed=seed)
    layer, gates = SequenceLayer(cell), len(cell.params["b"]) // H
    layer.unrolled = True

    def theirs(x: Any, *tensors: Any) -> list[Any]:
        weights, h = dict(zip(cell.params, tensors, strict=False)), tensors[-1]
        Wx = (x @ weights["W"].T).reshape(B, T, gates, 1, H).swapaxes(0, 1)
        R, b = weights["R"].reshape(gates, H, H), weights["b"].reshape(gates, 1, H)
        if function == "gru":
            b_h = weights["b_h"].reshape(gates, 1, H)
            R, b = R[[2, 0, 1]], torch.cat([b_h[2:], b[:2] + b_h[:2], b[2:]])
        R = R.permute(2, 0, 1)[None].contiguous()
        states, last = vanilla.flashrnn_forward(Wx, h.reshape(1, B, 1, 1, H), R, b, pointwise)
        return [states[:, :, 0, 0].swapaxes(0, 1), last[0, :, 0, 0]]

    return apart(of_recurrent(layer), theirs, (xs, *cell.params.values(), state.h))


def flash_cases() -> dict[str, Case]:
    """Yield cases of all four functions with different sizes."""
    cases: dict[str, Case] = {}
    for n, size in enumerate([(1, 1, 1, 1), (2, 7, 2, 3), (3, 20, 3, 2), (4, 9, 1, 5)] * 5):
        for function in ("lstm", "slstm", "gru", "elman"):
            case = with_kernel if function in KERNELS else with_cell
            cases[f"{function}-{n}"] = partial(case, function, *size, n)
    return cases
