"""The vanilla backend of FlashRNN: outputs, states and all gradients, in float64.

Its sLSTM clamps n to at least 1. With n₀ ≥ 1 this has no effect, because one of i′ and f′ is 1 and
n never falls below 1. In its GRU, R and the biases start with the rows of the candidate, and r and
z have one bias each.
"""

from functools import partial
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
from numpy_xlstm.cells import unroll, unroll_backward
from numpy_xlstm.numerics import Array
from tests.cells.custom_cells import build, normal
from tests.parity.outside.suite import Case, error

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
    Wx, R = rng.standard_normal((B, T, 4 * H)), rng.standard_normal((NH, 4 * DH, DH))
    state = rng.standard_normal((len(kind._fields), B, H))
    if function == "slstm":
        state[2] = 1 + np.abs(state[2])
    theirs = (
        torch.tensor(Wx.reshape(B, T, 4, NH, DH).swapaxes(0, 1).copy(), requires_grad=True),
        torch.tensor(state.reshape(-1, B, NH, DH).swapaxes(0, 1)[None].copy(), requires_grad=True),
        torch.tensor(R.reshape(NH, 4, DH, DH).transpose(0, 3, 1, 2).copy(), requires_grad=True),
    )
    b = torch.zeros(4, NH, DH, dtype=torch.float64)
    states, last = vanilla.flashrnn_forward(*theirs, b, pointwise)
    y, after, cache = forward(Wx, R, kind(*state))
    expected = (
        states[:, :, 0].detach().numpy().swapaxes(0, 1).reshape(y.shape),
        *last[0].detach().numpy().swapaxes(0, 1).reshape(state.shape),
    )
    dy, dstate = rng.standard_normal(y.shape), rng.standard_normal(state.shape)
    loss = (states[:, :, 0] * torch.tensor(dy.swapaxes(0, 1).reshape(T, B, NH, DH).copy())).sum()
    loss = loss + (last[0] * torch.tensor(dstate.reshape(-1, B, NH, DH).swapaxes(0, 1))).sum()
    loss.backward()
    dWx, dstates, dR = (tensor.grad.numpy() for tensor in theirs)
    gradients = (
        dWx.swapaxes(0, 1).reshape(Wx.shape),
        dR.transpose(0, 2, 3, 1).reshape(R.shape),
        *dstates[0].swapaxes(0, 1).reshape(state.shape),
    )
    dWx_, dR_, dstate0 = backward(dy, cache, kind(*dstate))
    return error((y, *after, dWx_, dR_, *dstate0), (*expected, *gradients))


def with_cell(function: str, B: int, T: int, D: int, H: int, seed: int) -> float:
    """Unrolled GRU or Elman network with W and both biases."""
    torch, vanilla, pointwise = _modules(function)
    cell, xs, state, rng = build(CUSTOM_CELLS[function], B, T, D, H, seed=seed)

    def leaf(array: Array) -> Any:
        return torch.tensor(array, requires_grad=True)

    weights = {name: leaf(array) for name, array in cell.params.items()}
    tx, th, gates = leaf(xs), leaf(state.h), len(cell.params["b"]) // H
    Wx = (tx @ weights["W"].T).reshape(B, T, gates, 1, H).swapaxes(0, 1)
    R, b = weights["R"].reshape(gates, H, H), weights["b"].reshape(gates, 1, H)
    if function == "gru":
        b_h = weights["b_h"].reshape(gates, 1, H)
        R, b = R[[2, 0, 1]], torch.cat([b_h[2:], b[:2] + b_h[:2], b[2:]])
    R = R.permute(2, 0, 1)[None].contiguous()
    states, last = vanilla.flashrnn_forward(Wx, th.reshape(1, B, 1, 1, H), R, b, pointwise)
    y, h = states[:, :, 0, 0].swapaxes(0, 1), last[0, :, 0, 0]
    ys, after, cache = unroll(cell, xs, state)
    dys, dlast = normal(ys, rng), normal(after, rng)
    ((y * torch.tensor(dys)).sum() + (h * torch.tensor(dlast.h)).sum()).backward()
    dxs, dstate0, grads = unroll_backward(cell, dys, cache, dlast)
    found = ys, after.h, dxs, dstate0.h, *grads.values()
    inputs = tx, th, *(weights[name] for name in grads)
    return error(found, (y.detach(), h.detach(), *(tensor.grad for tensor in inputs)))


def flash_cases() -> dict[str, Case]:
    """Yield cases of all four functions with different sizes."""
    cases: dict[str, Case] = {}
    for n, size in enumerate([(1, 1, 1, 1), (2, 7, 2, 3), (3, 20, 3, 2), (4, 9, 1, 5)] * 5):
        for function in ("lstm", "slstm", "gru", "elman"):
            case = with_kernel if function in KERNELS else with_cell
            cases[f"{function}-{n}"] = partial(case, function, *size, n)
    return cases
