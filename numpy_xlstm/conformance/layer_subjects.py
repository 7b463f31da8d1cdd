"""Subjects that are no cells: layers, a loss, and steps of training."""

from typing import Any

import numpy as np

from numpy_xlstm import layers
from numpy_xlstm.conformance.subjects import Arrays, Options, Subject, drawn, part
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array
from numpy_xlstm.training.adamw import AdamW
from numpy_xlstm.training.clipping import CLIP_EPS, clip_grad_norm
from numpy_xlstm.training.schedules import warmup_cosine

D, OUT, NH, V = 6, 10, 2, 8
"""Widths of x and y, number of heads, and number of tokens."""
ORDINARY = ("ordinary",)
SHAPES = {"W": (3, 5), "b": (4,), "R": (2, 3, 2)}
"""Shapes of a matrix and a tensor, which decay, and of a vector, which does not."""
STEPS = 3
ADAMW: dict[str, Any] = {
    "lr": 2.0**-5,
    "beta1": 0.75,
    "beta2": 0.9375,
    "eps": 2.0**-10,
    "weight_decay": 0.125,
}
"""Options that every dtype represents exactly."""


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


class Steps(Subject):
    """AdamW: parameters and moments after :data:`STEPS` steps, from parameters and gradients."""

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        params = {f"params.{name}": np.zeros(shape) for name, shape in SHAPES.items()}
        grads = {f"grads.{t}.{n}": np.zeros(s) for t in range(STEPS) for n, s in SHAPES.items()}
        return params | grads

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        params = {name: array.copy() for name, array in part(inputs, "params").items()}
        rest = {name: value for name, value in options.items() if not name.startswith("beta")}
        betas = options["beta1"], options["beta2"]
        optimizer = (specification or self.specification)(params, betas=betas, **rest)
        for t in range(STEPS):
            optimizer.step(part(inputs, f"grads.{t}"))
        found = {"params": params, "m": optimizer.m, "v": optimizer.v}
        return {f"{kind}.{name}": a for kind, arrays in found.items() for name, a in arrays.items()}


class Clipping(Subject):
    """Clipping by the global norm: clipped gradients, and the norm before clipping."""

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        return {f"grads.{name}": np.zeros(shape) for name, shape in SHAPES.items()}

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        grads = part(inputs, "grads")
        clipped, norm = (specification or self.specification)(grads, options["max_norm"])
        found = {f"grads.{name}": array for name, array in clipped.items()}
        return {**found, "norm": np.asarray(norm, grads["W"].dtype)}


class Schedule(Subject):
    """Factor of the learning rate as a function of the progress of training."""

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        return {"progress": np.zeros(16)}

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        progress = inputs["progress"]
        schedule = (specification or self.specification)(**options)
        factors = [schedule(float(each)) for each in progress]
        return {"factor": np.array(factors, progress.dtype)}


def _layer(
    name: str, specification: Any, make: Any, options: Options, axes: Any = None, **more: Any
) -> Subject:
    """Return a subject with one variant, which by default has ordinary cases only."""
    more = {"variants": {"": options}, "situations": ORDINARY} | more
    return Subject(f"layer.{name}", specification, make, axes=axes or {}, **more)


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
    _layer("silu", (layers.silu, layers.silu_backward), Function, {"width": D}),
    _layer("gelu", (layers.gelu, layers.gelu_backward), Function, {"width": D}),
    _layer("gelu-tanh", (layers.gelu_tanh, layers.gelu_tanh_backward), Function, {"width": D}),
    _layer(
        "soft-cap", (layers.soft_cap, layers.soft_cap_backward), Function, {"width": D, "cap": 1.5}
    ),
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

NAMES = {"W": "unit input", "R": "head unit input", "b": "unit"}
NORMS = {n: {"max_norm": m, "eps": CLIP_EPS} for n, m in (("clipped", 1.5), ("unclipped", 64.0))}
WARMUP = {"": {"warmup": 0.125, "final": 0.25}}
TRAINING = [
    Steps("training.adamw", AdamW, None, {"": ADAMW}, NAMES, situations=ORDINARY),
    Clipping("training.clipping", clip_grad_norm, None, NORMS, NAMES, situations=ORDINARY),
    Schedule("training.schedule", warmup_cosine, None, WARMUP, {}, situations=ORDINARY),
]
"""Subjects of training, which are functions and not modules."""
