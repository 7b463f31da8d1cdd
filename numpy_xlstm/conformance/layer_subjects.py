"""Subjects without recurrence: maps of the last axis, a convolution, an embedding and a loss."""

from dataclasses import replace
from typing import Any

import numpy as np

from numpy_xlstm import layers
from numpy_xlstm.conformance.subjects import RNG, Arrays, Options, Subject
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array

D, OUT, NH, V = 6, 10, 2, 8
"""Widths of x and y, number of heads, and number of tokens."""


class Function(Module):
    """Layer made of a function and its backward; options are passed to the function."""

    def __init__(self, pair: Any, width: int, **options: Any) -> None:
        self.params, self.in_features, self.out_features = {}, width, width
        self.pair, self.options = pair, options

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


def drawn(specification: Any, options: Options) -> Any:
    """Make a layer whose initial values are random; a case replaces them all."""
    return specification(**options, rng=RNG)


def function(specification: Any, options: Options) -> Function:
    """Make a layer of a pair of functions."""
    return Function(specification, **options)


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
        dx: Array = backward(inputs["dy"], cache)
        return {"y": loss, "dx": dx}


NORM: dict[str, Any] = {"num_features": D, "eps": 2.0**-7, "bias": True}
HEADS: dict[str, Any] = {"num_heads": NH, "head_dim": 3, "eps": 2.0**-7, "bias": True}
ONE_PLUS, FACTOR = {"residual_weight": True}, {"residual_weight": False}
FEED: dict[str, Any] = {"embedding_dim": D, "proj_up_dim": OUT, "bias": True}
FUNCTIONS: dict[str, tuple[Any, Options]] = {
    "silu": ((layers.silu, layers.silu_backward), {}),
    "gelu": ((layers.gelu, layers.gelu_backward), {}),
    "gelu-tanh": ((layers.gelu_tanh, layers.gelu_tanh_backward), {}),
    "soft-cap": ((layers.soft_cap, layers.soft_cap_backward), {"cap": 1.5}),
}
"""Pairs of functions, and their options."""
BY_HEAD = dict.fromkeys("xy", "row step (head={num_heads} unit)")
CONV = {"conv.weight": "unit group tap", "state": "row tap unit"}

KINDS_OF_LAYERS: dict[str, tuple[Any, Any, dict[str, Options], dict[str, str]]] = {
    "linear": (layers.Linear, drawn, {"": {"in_features": D, "out_features": OUT}}, {}),
    "headwise-linear": (
        layers.HeadwiseLinear,
        drawn,
        {"": {"in_features": D, "num_heads": NH, "bias": True, "out_features": OUT}},
        {},
    ),
    "causal-conv1d": (layers.CausalConv1d, drawn, {"": {"feature_dim": D, "kernel_size": 4}}, CONV),
    "layer-norm": (layers.LayerNorm, plain, {"": NORM | ONE_PLUS}, {}),
    "rms-norm": (layers.RMSNorm, plain, {"": NORM | FACTOR}, {}),
    "multi-head-layer-norm": (layers.MultiHeadLayerNorm, plain, {"": HEADS | ONE_PLUS}, BY_HEAD),
    "multi-head-rms-norm": (layers.MultiHeadRMSNorm, plain, {"": HEADS | FACTOR}, BY_HEAD),
    "gated-feed-forward": (
        layers.GatedFeedForward,
        drawn,
        {act: {**FEED, "act_fn": act} for act in ("gelu", "swish")},
        {},
    ),
    **{
        name: (pair, function, {"": {"width": D, **options}}, {})
        for name, (pair, options) in FUNCTIONS.items()
    },
}
"""Specification, function that makes it, variants and axes of each layer."""

TOKEN_AXES = {"weight": "token unit", "x": "row step"}
EMBEDDING = {"num_embeddings": V, "embedding_dim": D}
CROSS_ENTROPY = layers.softmax_cross_entropy, layers.softmax_cross_entropy_backward
ORDINARY = ("ordinary",)
WITH_STATE = ("ordinary", "no-state", "one-step", "no-step")


def _layers() -> list[Subject]:
    found = [
        Subject(
            f"layer.{name}",
            specification,
            make,
            variants,
            axes,
            situations=WITH_STATE if "state" in axes else ORDINARY,
        )
        for name, (specification, make, variants, axes) in KINDS_OF_LAYERS.items()
    ]
    embedding = Subject("layer.embedding", layers.Embedding, drawn, {"": EMBEDDING}, TOKEN_AXES)
    embedding = replace(embedding, tokens="num_embeddings", situations=ORDINARY)
    axes = {"x": "row step token", "targets": "row step", "y": ""}
    loss = Loss("layer.cross-entropy", CROSS_ENTROPY, function, {"": {"vocab_size": V}}, axes)
    return [
        *found,
        embedding,
        replace(loss, tokens="vocab_size", situations=("ordinary", "ignored")),
    ]


STATELESS = _layers()
