"""Subjects that are no cells: layers and a loss."""

from functools import partial
from typing import Any

import numpy as np

from numpy_xlstm import layers
from numpy_xlstm.conformance.subjects import Arrays, Options, Subject, drawn
from numpy_xlstm.layers.activations import ACTIVATIONS, soft_cap, soft_cap_backward
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array

D, OUT, NH, V = 6, 10, 2, 8
"""Widths of x and y, number of heads, and number of tokens."""
ORDINARY = ("ordinary",)


class Function(Module):
    """Layer made of a function and its backward; options are passed to the function."""

    def __init__(self, pair: Any, options: Options) -> None:
        self.params, self.pair = {}, pair
        self.in_features = self.out_features = options["width"]
        self.options = {name: value for name, value in options.items() if name != "width"}

    def forward(self, x: Array) -> tuple[Array, Any]:
        """Apply the function."""
        y, cache = self.pair[0](x, **self.options)
        return y, cache

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        """Return the gradient of x, and no gradients of parameters."""
        return self.pair[1](dy, cache), {}


def plain(specification: Any, options: Options) -> Any:
    """Make a layer whose initial values are constants."""
    return specification(**options)


class Loss(Subject):
    """Softmax cross-entropy of x (B, T, V); y and dy are scalars, and targets are tokens."""

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        x = np.zeros((B, T, options["vocab_size"]))
        return {"x": x, "targets": np.zeros((B, T), np.int64), "dy": np.zeros(())}

    def called(self, options: Options, inputs: Arrays) -> tuple[Any, tuple[Any, ...]]:
        """Return the pair of functions, and its arguments."""
        return self.specification, (inputs["x"], inputs["targets"])

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        forward, backward = specification or self.specification
        ignored = options.get("ignore_index")
        loss, cache = forward(inputs["x"], inputs["targets"], ignore_index=ignored)
        gradient = {"dx": backward(inputs["dy"], cache)} if "dy" in inputs else {}
        return {"y": loss, **gradient}


def _layer(
    name: str, specification: Any, make: Any, options: Options, axes: Any = None, **more: Any
) -> Subject:
    """Return a subject with one variant, which by default has ordinary cases only."""
    more = {"variants": {"": options}, "situations": ORDINARY} | more
    return Subject(f"layer.{name}", specification, make, axes=axes or {}, **more)


def _same(layer: Any, options: Options) -> Any:
    return layer


def _function(name: str, pair: Any, layer: Any, **options: Any) -> Subject:
    """Return the subject of an elementwise function, which users call as a layer."""
    return _layer(name, pair, Function, {"width": D, **options}, public=partial(_same, layer))


NORM: dict[str, Any] = {"num_features": D, "eps": 2.0**-7, "bias": True}
HEADS: dict[str, Any] = {"num_heads": NH, "head_dim": 3, "eps": 2.0**-7, "bias": True}
ONE_PLUS, FACTOR = {"residual_weight": True}, {"residual_weight": False}
FEED: dict[str, Any] = {"embedding_dim": D, "proj_up_dim": OUT, "bias": True}
BY_HEAD = dict.fromkeys("xy", "row step (head={num_heads} unit)")
HEADWISE = {"in_features": D, "num_heads": NH, "bias": True, "out_features": OUT}
CONV = {"conv.weight": "unit group tap", "state": "row tap unit"}
CROSS_ENTROPY = layers.softmax_cross_entropy, layers.softmax_cross_entropy_backward
STATELESS = [
    _layer("linear", layers.Linear, drawn, {"in_features": D, "out_features": OUT}),
    _layer("headwise-linear", layers.HeadwiseLinear, drawn, HEADWISE),
    _layer(
        "causal-conv1d",
        layers.CausalConv1d,
        drawn,
        {"feature_dim": D, "kernel_size": 4},
        CONV,
        situations=("ordinary", "no-state", "one-step", "no-step"),
    ),
    _layer("layer-norm", layers.LayerNorm, plain, NORM | ONE_PLUS),
    _layer("rms-norm", layers.RMSNorm, plain, NORM | FACTOR),
    _layer("multi-head-layer-norm", layers.MultiHeadLayerNorm, plain, HEADS | ONE_PLUS, BY_HEAD),
    _layer("multi-head-rms-norm", layers.MultiHeadRMSNorm, plain, HEADS | FACTOR, BY_HEAD),
    _layer(
        "gated-feed-forward",
        layers.GatedFeedForward,
        drawn,
        {},
        variants={act: {**FEED, "act_fn": act} for act in ("gelu", "swish")},
    ),
    _function("silu", ACTIVATIONS["swish"], layers.Activation("swish")),
    _function("gelu", ACTIVATIONS["gelu"], layers.Activation("gelu")),
    _function("gelu-tanh", ACTIVATIONS["gelu_tanh"], layers.Activation("gelu_tanh")),
    _function("soft-cap", (soft_cap, soft_cap_backward), layers.SoftCap(1.5), cap=1.5),
    _layer(
        "embedding",
        layers.Embedding,
        drawn,
        {"num_embeddings": V, "embedding_dim": D},
        {"weight": "token unit", "x": "row step"},
        tokens="num_embeddings",
    ),
    Loss(
        "layer.cross-entropy",
        CROSS_ENTROPY,
        Function,
        {"": {"vocab_size": V}},
        {"x": "row step token", "targets": "row step", "y": ""},
        tokens="vocab_size",
        situations=("ordinary", "ignored"),
    ),
]
"""All subjects without recurrence."""
