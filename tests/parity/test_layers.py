"""Outputs and gradients of layers compared with PyTorch in float64."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

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
from tests.variants import assert_close

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
functional = torch.nn.functional

TOLERANCE = 1e-12
LEADING = pytest.mark.parametrize("leading", [(), (4,), (2, 7)])


def tensors(*arrays: Array) -> list[Any]:
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def assert_same(layer: Any, theirs: Callable[..., Any], x: Array, dy: Array) -> None:
    """Compare a layer with a function of x and of the layer's parameters, in order."""
    inputs = tensors(x, *layer.params.values())
    out = theirs(*inputs)
    out.backward(torch.tensor(dy))
    y, cache = layer.forward(x)
    dx, grads = layer.backward(dy, cache)
    ours = (y, dx, *(grads[name] for name in layer.params))
    assert_close(ours, (out.detach().numpy(), *(t.grad.numpy() for t in inputs)), TOLERANCE)


def point(layer: Any, leading: tuple[int, ...]) -> tuple[Array, Array]:
    """Random parameters, an input away from 0 and a cotangent."""
    rng = np.random.default_rng(len(leading))
    filled(layer, rng)
    x, dy = rng.standard_normal((2, *leading, layer.in_features))
    return x + 0.5, dy


def by_group(x: Any, w: Any, b: Any, eps: float) -> Any:
    return functional.group_norm(x.reshape(-1, 12), 3, 1 + w, b, eps).reshape(x.shape)


def by_head(x: Any, w: Any, eps: float) -> Any:
    heads = x.reshape(*x.shape[:-1], 3, 4)
    return functional.rms_norm(heads, (4,), None, eps).reshape(x.shape) * w


NORMS: dict[str, tuple[Callable[[float], Any], Callable[..., Any]]] = {
    "layer": (
        lambda eps: LayerNorm(6, eps, bias=True),
        lambda x, w, b, eps: functional.layer_norm(x, (6,), 1 + w, b, eps),
    ),
    "RMS": (lambda eps: RMSNorm(6, eps), lambda x, w, eps: functional.rms_norm(x, (6,), w, eps)),
    "layer by head": (lambda eps: MultiHeadLayerNorm(3, 4, eps, bias=True), by_group),
    "RMS by head": (lambda eps: MultiHeadRMSNorm(3, 4, eps), by_head),
}


@LEADING
@pytest.mark.parametrize("eps", [1e-6, 0.3])
@pytest.mark.parametrize("name", NORMS)
def test_norms(name: str, leading: tuple[int, ...], eps: float) -> None:
    make, theirs = NORMS[name]
    layer = make(eps)
    assert_same(layer, partial(theirs, eps=eps), *point(layer, leading))


@pytest.mark.parametrize(("B", "T", "D", "K"), [(1, 1, 1, 1), (2, 7, 3, 4), (3, 2, 2, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_causal_convolution(B: int, T: int, D: int, K: int, bias: bool) -> None:
    """Depthwise, over the state followed by the inputs: no padding is needed."""
    rng = np.random.default_rng(T)
    layer = filled(CausalConv1d(D, K, bias), rng)
    x, dy = rng.standard_normal((2, B, T, D))
    state = rng.standard_normal((B, K - 1, D))
    tx, ts, *params = tensors(x, state, *layer.params.values())
    padded = torch.cat((ts, tx), dim=1).transpose(1, 2)
    out = functional.conv1d(padded, *params, groups=D).transpose(1, 2)
    out.backward(torch.tensor(dy))
    y, _, cache = layer.forward(x, state)
    dx, dstate, grads = layer.backward(dy, cache)
    ours = (y, dx, dstate, *(grads[name] for name in layer.params))
    theirs = (out.detach().numpy(), *(t.grad.numpy() for t in (tx, ts, *params)))
    assert_close(ours, theirs, TOLERANCE)


def test_a_padded_conv1d_is_the_convolution_from_the_empty_state() -> None:
    rng = np.random.default_rng(1)
    layer = filled(CausalConv1d(3, 4), rng)
    theirs = torch.nn.Conv1d(3, 3, 4, padding=3, groups=3).double()
    weights = {name.removeprefix("conv."): torch.tensor(a) for name, a in layer.params.items()}
    theirs.load_state_dict(weights)
    x = rng.standard_normal((2, 7, 3))
    expected = theirs(torch.tensor(x).transpose(1, 2))[..., :7].transpose(1, 2)
    assert_close(layer(x)[0], expected.detach().numpy(), TOLERANCE)


PEERS: dict[str, Callable[[Any], Any]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "swish": functional.silu,
    "selu": functional.selu,
    "relu": functional.relu,
    "relu^2": lambda x: functional.relu(x).square(),
    "sigmoid": torch.sigmoid,
}


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations(name: str) -> None:
    x = np.concatenate((np.linspace(-8, 8, 161), [0.0]))
    (inputs,) = tensors(x)
    out = PEERS[name](inputs)
    out.sum().backward()
    value, cache = ACTIVATIONS[name].forward(x)
    slope = ACTIVATIONS[name].backward(np.ones_like(x), cache)
    assert_close((value, slope), (out.detach().numpy(), inputs.grad.numpy()), TOLERANCE)


@LEADING
@pytest.mark.parametrize("name", ["gelu", "swish"])
def test_gated_feed_forward(leading: tuple[int, ...], name: str) -> None:
    layer = GatedFeedForward(3, 5, name)
    x, dy = point(layer, leading)

    def theirs(x: Any, up: Any, down: Any) -> Any:
        gate, value = (x @ up.T).split(5, dim=-1)
        return (PEERS[name](gate) * value) @ down.T

    assert_same(layer, theirs, x, dy)
