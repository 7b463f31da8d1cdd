"""sLSTM compared with the vanilla sLSTM of the package ``xlstm``, in float64.

Its arguments are pre-activations, so that W is the identity here. Its rule for the first step tests
all(n == 0) over the batch; with a zero state in all rows, this corresponds to our empty state.
"""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import sLSTM, sLSTMState
from numpy_xlstm.numerics import Array
from tests.variants import assert_close

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
vanilla = pytest.importorskip(
    "xlstm.blocks.slstm.src.vanilla",
    reason="xlstm (the extra 'peers') is not installed",
    exc_type=ImportError,
)
pointwise = pytest.importorskip("xlstm.blocks.slstm.src.vanilla.slstm", exc_type=ImportError)


def _theirs(x: Any, states: Any, R: Any, b: Any) -> Any:
    """All states, (4, T+1, B, H), in the order h, c, n, m."""
    return vanilla.slstm_forward(x, states, R, b, pointwise.slstm_forward_pointwise)[0]


def _case(seed: int, B: int, T: int, NH: int, DH: int) -> tuple[sLSTM, Array, np.random.Generator]:
    rng = np.random.default_rng(seed)
    H = NH * DH
    layer = sLSTM(4 * H, H, NH, rng=rng)
    for array in layer.params.values():
        array[...] = rng.standard_normal(array.shape)
    layer.params["W"][...] = np.eye(4 * H)
    return layer, rng.standard_normal((B, T, 4 * H)), rng


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize(("B", "T", "NH", "DH"), [(1, 1, 1, 1), (2, 6, 2, 3), (3, 20, 1, 4)])
def test_states_and_gradients(B: int, T: int, NH: int, DH: int, with_state: bool) -> None:
    layer, x, rng = _case(T, B, T, NH, DH)
    H = NH * DH
    state0 = np.zeros((4, B, H))
    if with_state:
        state0 = rng.standard_normal((4, B, H))
        state0[2] = np.abs(state0[2]) + 1
    tensors = [
        torch.tensor(a, requires_grad=True)
        for a in (x.swapaxes(0, 1).copy(), state0, layer.params["R"], layer.params["b"])
    ]
    states = _theirs(*tensors)
    y, state, cache = layer.forward(x, sLSTMState(*state0) if with_state else None)
    found = states.detach().numpy()
    assert_close((y, *state), (found[0, 1:].swapaxes(0, 1), *found[:, -1]), 1e-13)

    # Theirs differentiates the maximum by autograd, so that all states may have cotangents.
    dy = rng.standard_normal(y.shape)
    dstate = sLSTMState(*rng.standard_normal((4, B, H)))
    loss = (states[0, 1:] * torch.tensor(dy.swapaxes(0, 1).copy())).sum()
    loss = loss + (states[:, -1] * torch.tensor(np.stack(dstate))).sum()
    loss.backward()
    dx, dstate0, grads = layer.backward(dy, cache, dstate)
    expected = [t.grad.numpy() for t in tensors]
    assert_close(dx.swapaxes(0, 1), expected[0], 1e-12)
    assert_close((grads["R"], grads["b"]), tuple(expected[2:]), 1e-12)
    if with_state:
        assert_close(tuple(dstate0), tuple(expected[1]), 1e-12, 1e-13)
