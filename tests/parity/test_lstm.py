"""LSTM beside ``torch.nn.LSTM``: outputs, states and all gradients, float64."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, LSTMState
from tests.variants import assert_close

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")


def _pair(seed: int, D: int, H: int, **options: Any) -> tuple[LSTM, Any, np.random.Generator]:
    """The same LSTM twice, with random weights and biases."""
    rng = np.random.default_rng(seed)
    ours = LSTM(D, H, rng=rng, **options)
    theirs = torch.nn.LSTM(D, H, 1, batch_first=ours.batch_first).double()
    b_hh = rng.standard_normal(4 * H)
    for array in ours.params.values():
        array[...] = rng.standard_normal(array.shape)
    weights = {
        "weight_ih_l0": ours.params["W"],
        "weight_hh_l0": ours.params["R"],
        "bias_ih_l0": ours.params["b"] - b_hh,
        "bias_hh_l0": b_hh,
    }
    theirs.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
    return ours, theirs, rng


@pytest.mark.parametrize(("B", "T", "D", "H"), [(1, 1, 1, 1), (2, 7, 3, 4), (5, 20, 4, 2)])
@pytest.mark.parametrize("batch_first", [True, False])
def test_outputs_states_and_gradients(B: int, T: int, D: int, H: int, batch_first: bool) -> None:
    ours, theirs, rng = _pair(T, D, H, batch_first=batch_first)
    x = rng.standard_normal((B, T, D) if batch_first else (T, B, D))
    h0, c0 = rng.standard_normal((2, 1, B, H))
    tx, th, tc = (torch.tensor(a, requires_grad=True) for a in (x, h0, c0))
    out, (hn, cn) = theirs(tx, (th, tc))
    y, state, cache = ours.forward(x, (h0, c0))
    assert_close((y, state), (out.detach().numpy(), LSTMState(*_numpy(hn, cn))), 1e-13)

    dy, dh, dc = (rng.standard_normal(a.shape) for a in (y, *state))
    loss = sum((torch.tensor(c) * a).sum() for c, a in ((dy, out), (dh, hn), (dc, cn)))
    loss.backward()
    dx, dstate0, grads = ours.backward(dy, cache, LSTMState(dh, dc))
    assert_close((dx, *dstate0), tuple(t.grad.numpy() for t in (tx, th, tc)), 1e-12)
    named = {"W": "weight_ih_l0", "R": "weight_hh_l0", "b": "bias_ih_l0"}
    for name, theirs_name in named.items():
        assert_close(grads[name], getattr(theirs, theirs_name).grad.numpy(), 1e-12)


def _numpy(*tensors: Any) -> list[Any]:
    return [t.detach().numpy() for t in tensors]


def test_the_notebook_call_gives_the_same_numbers() -> None:
    ours, theirs, rng = _pair(0, 5, 5, batch_first=False)
    x, (h0, c0) = rng.standard_normal((2, 10, 5)), rng.standard_normal((2, 1, 10, 5))
    out, (h, c) = ours(x, (h0, c0))
    expected, (hn, cn) = theirs(torch.tensor(x), (torch.tensor(h0), torch.tensor(c0)))
    assert out.shape == (2, 10, 5)
    assert_close((out, h, c), tuple(_numpy(expected, hn, cn)), 1e-13)
