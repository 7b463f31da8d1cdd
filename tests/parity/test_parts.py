"""Layers and recurrences compared with PyTorch, ``xlstm`` and ``mlstm_kernels`` in float64.

``mlstm_kernels`` divides q by √DK and this package k, so that its C and n are √DK times ours; h is
the same. Its recurrent form starts from m = 0, and its parallel form from the empty state.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import mLSTMState, sLSTM
from numpy_xlstm.conformance.catalogue import OVER_MEMORY
from numpy_xlstm.layers import (
    ACTIVATIONS,
    CausalConv1d,
    GatedFeedForward,
    LayerNorm,
    MultiHeadLayerNorm,
    MultiHeadRMSNorm,
    RMSNorm,
)
from numpy_xlstm.numerics import Array
from tests.layers.points import filled
from tests.parity.autograd import Arrays, Ours, both, of_layer, of_recurrent
from tests.variants import assert_close

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
functional = torch.nn.functional

TOLERANCE = 1e-12


def compare(
    ours: Ours,
    theirs: Callable[..., Any],
    inputs: Arrays,
    gradients: tuple[float, float] = (TOLERANCE, 0),
) -> None:
    """Compare outputs, and gradients of all inputs, with the tolerances of the latter."""
    got, expected = both(ours, theirs, inputs)
    assert_close(got.outputs, expected.outputs, TOLERANCE)
    assert_close(got.gradients, expected.gradients, *gradients)


def by_group(x: Any, w: Any, b: Any, eps: float) -> Any:
    return functional.group_norm(x.reshape(-1, 12), 3, 1 + w, b, eps).reshape(x.shape)


def by_head(x: Any, w: Any, eps: float) -> Any:
    heads = x.reshape(*x.shape[:-1], 3, 4)
    return functional.rms_norm(heads, (4,), None, eps).reshape(x.shape) * w


PEERS: dict[str, Callable[[Any], Any]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "swish": functional.silu,
    "selu": functional.selu,
    "relu": functional.relu,
    "relu^2": lambda x: functional.relu(x).square(),
    "sigmoid": torch.sigmoid,
}


def gated(x: Any, up: Any, down: Any, act_fn: str) -> Any:
    gate, value = (x @ up.T).split(5, dim=-1)
    return (PEERS[act_fn](gate) * value) @ down.T


def layers() -> Iterator[tuple[str, Any, Callable[..., Any]]]:
    """Yield a name, a layer, and the function of x and of its parameters in PyTorch."""
    for eps in (1e-6, 0.3):

        def plain(x: Any, w: Any, b: Any, eps: float = eps) -> Any:
            return functional.layer_norm(x, (6,), 1 + w, b, eps)

        def rms(x: Any, w: Any, eps: float = eps) -> Any:
            return functional.rms_norm(x, (6,), w, eps)

        yield f"layer norm {eps}", LayerNorm(6, eps, bias=True), plain
        yield f"RMS norm {eps}", RMSNorm(6, eps), rms
        heads = MultiHeadLayerNorm(3, 4, eps, bias=True)
        yield f"layer norm by head {eps}", heads, partial(by_group, eps=eps)
        yield f"RMS norm by head {eps}", MultiHeadRMSNorm(3, 4, eps), partial(by_head, eps=eps)
    for name in ("gelu", "swish"):
        yield f"feed-forward {name}", GatedFeedForward(3, 5, name), partial(gated, act_fn=name)


LAYERS = {name: (layer, theirs) for name, layer, theirs in layers()}


@pytest.mark.parametrize("leading", [(), (4,), (2, 7)])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, leading: tuple[int, ...]) -> None:
    """At random parameters and an input away from 0."""
    (layer, theirs), rng = LAYERS[name], np.random.default_rng(len(leading))
    filled(layer, rng)
    x = rng.standard_normal((*leading, layer.in_features)) + 0.5
    compare(of_layer(layer), lambda *given: [theirs(*given)], (x, *layer.params.values()))


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations(name: str) -> None:
    x = np.concatenate((np.linspace(-8, 8, 161), [0.0]))

    def ours(x: Array) -> tuple[Arrays, Callable[..., Arrays]]:
        y, cache = ACTIVATIONS[name].forward(x)
        return (y,), lambda dy: (ACTIVATIONS[name].backward(dy, cache),)

    compare(ours, lambda x: [PEERS[name](x)], (x,))


@pytest.mark.parametrize(("B", "T", "D", "K"), [(1, 1, 1, 1), (2, 7, 3, 4), (3, 2, 2, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_causal_convolution(B: int, T: int, D: int, K: int, bias: bool) -> None:
    """Depthwise, over the state followed by the inputs: no padding is needed."""
    rng = np.random.default_rng(T)
    layer = filled(CausalConv1d(D, K, bias), rng)

    def theirs(x: Any, *tensors: Any) -> list[Any]:
        *params, state = tensors
        padded = torch.cat((state, x), dim=1)
        y = functional.conv1d(padded.transpose(1, 2), *params, groups=D).transpose(1, 2)
        return [y, padded[:, T:]]

    x, state = rng.standard_normal((B, T, D)), rng.standard_normal((B, K - 1, D))
    compare(of_recurrent(layer), theirs, (x, *layer.params.values(), state))


def imported(name: str) -> Any:
    reason = f"{name.split('.')[0]} (the extra 'peers') is not installed"
    return pytest.importorskip(name, reason=reason, exc_type=ImportError)


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize(("B", "T", "NH", "DH"), [(1, 1, 1, 1), (2, 6, 2, 3), (3, 20, 1, 4)])
def test_slstm(B: int, T: int, NH: int, DH: int, with_state: bool) -> None:
    """Their first step tests all(n = 0) over the batch: if so, it is that of our empty state."""
    vanilla = imported("xlstm.blocks.slstm.src.vanilla")
    pointwise = imported("xlstm.blocks.slstm.src.vanilla.slstm").slstm_forward_pointwise
    rng, H = np.random.default_rng(T), NH * DH
    layer = filled(sLSTM(3, H, NH), rng)

    def theirs(x: Any, W: Any, R: Any, b: Any, *state: Any) -> list[Any]:
        start = torch.stack(state) if state else torch.zeros(4, B, H, dtype=torch.float64)
        pre = (x @ W.T).transpose(0, 1)
        states = vanilla.slstm_forward(pre, start, R, b, pointwise)[0]
        return [states[0, 1:].transpose(0, 1), *states[:, -1]]

    x, (h, c, n, m) = rng.standard_normal((B, T, 3)), rng.standard_normal((4, B, H))
    state = (h, c, np.abs(n) + 1, m) if with_state else ()
    compare(of_recurrent(layer), theirs, (x, *layer.params.values(), *state))


def recurrent(*tensors: Any) -> list[Any]:
    *inputs, C, n, m = tensors
    root = inputs[0].shape[-1] ** 0.5
    function = imported(
        "mlstm_kernels.torch.recurrent.native_sequence"
    ).mlstm_recurrent_sequence__native_fw
    h, (C, n, m) = function(
        *inputs,
        c_initial=C * root,
        n_initial=n * root,
        m_initial=m[..., None],
        return_last_states=True,
        dtype_state=torch.float64,
    )
    return [h, C / root, n / root, m[..., 0]]


def parallel(*tensors: Any) -> list[Any]:
    return [
        imported("mlstm_kernels.torch.parallel.native").mlstm_parallel__native_autograd(*tensors)
    ]


@pytest.mark.parametrize("form", OVER_MEMORY)
@pytest.mark.parametrize("shape", [(1, 1, 1, 2, 2), (2, 2, 9, 3, 4), (1, 3, 33, 4, 2)])
@pytest.mark.parametrize("start", ["empty", "zero", "random"])
def test_mlstm(form: str, shape: tuple[int, int, int, int, int], start: str) -> None:
    (forward, backward), rng = OVER_MEMORY[form], np.random.default_rng(1)
    B, NH, T, DK, DV = shape
    q, k = rng.standard_normal((2, B, NH, T, DK))
    v, (i, f) = rng.standard_normal((B, NH, T, DV)), 2 * rng.standard_normal((2, B, NH, T))
    sizes = ((B, NH, DK, DV), (B, NH, DK), (B, NH))
    state = [np.zeros(s) if start == "zero" else rng.standard_normal(s) for s in sizes]
    given = (q, k, v, i, f, *(state if start != "empty" else []))

    def ours(*arrays: Array) -> tuple[Arrays, Callable[..., Arrays]]:
        before = mLSTMState(*arrays[5:]) if len(arrays) > 5 else None
        h, after, cache = forward(*arrays[:5], before)
        if before is None:
            return (h,), lambda dh: backward(dh, cache)[:-1]

        def pull(dh: Array, *dafter: Array) -> Arrays:
            *grads, dstate = backward(dh, cache, mLSTMState(*dafter))
            return *grads, *dstate

        return (h, *after), pull

    compare(ours, parallel if start == "empty" else recurrent, given, (1e-10, 1e-12))
