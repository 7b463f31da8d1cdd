"""Subjects that are no cells: layers, a loss, blocks and small models.

The options of blocks and models are flat versions of their configurations.
"""

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from numpy_xlstm import layers, models
from numpy_xlstm.cells.mlstm import EPS
from numpy_xlstm.conformance.subjects import CASE_EPS, CHUNK, NH, RNG, Options, Subject, drawn
from numpy_xlstm.layers.activations import ACTIVATIONS, soft_cap, soft_cap_backward
from numpy_xlstm.numerics import Arrays

SIZES = ("width", "vocab_size")
"""Options that are not passed to functions."""
WIDTH, OUT, FEW, VOCABULARY = 6, 10, 8, 11
"""Widths of x and y of layers, and numbers of tokens of a layer and of a model."""


def function(pair: Any, options: Options) -> Any:
    """Make a layer of a function or a loss and its backward; sizes are not passed to it."""
    width, rest = options.get("width"), {n: v for n, v in options.items() if n not in SIZES}
    none = (None,) if "vocab_size" in options else ()  # targets have no gradient
    return SimpleNamespace(
        params={},
        in_features=width,
        out_features=width,
        forward=partial(pair[0], **rest),
        backward=lambda dy, cache: (pair[1](dy, cache), *none),
    )


def plain(specification: Any, options: Options) -> Any:
    """Make a layer whose initial values are constants."""
    return specification(**options)


class Loss(Subject):
    """Softmax cross-entropy of x (B, T, V); y and dy are scalars, and targets are tokens."""

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        x = np.zeros((B, T, options["vocab_size"]))
        return {"x": x, "targets": np.zeros((B, T), np.int64), "dy": np.zeros(())}


def _layer(
    name: str, specification: Any, make: Any, options: Options, axes: Any = None, **more: Any
) -> Subject:
    """Return a subject with one variant, which by default has ordinary cases only."""
    more = {"variants": {"": options}, "situations": ("ordinary",)} | more
    return Subject(f"layer.{name}", specification, make, axes=axes or {}, **more)


def _same(layer: Any, options: Options) -> Any:
    return layer


def _function(name: str, pair: Any, layer: Any, **options: Any) -> Subject:
    """Return the subject of an elementwise function, which users call as a layer."""
    return _layer(name, pair, function, {"width": WIDTH, **options}, public=partial(_same, layer))


NORM: dict[str, Any] = {"num_features": WIDTH, "eps": 2.0**-7, "bias": True}
NORMS: dict[str, Any] = {"num_heads": NH, "head_dim": 3, "eps": 2.0**-7, "bias": True}
ONE_PLUS, FACTOR = {"residual_weight": True}, {"residual_weight": False}
FEED: dict[str, Any] = {"embedding_dim": WIDTH, "proj_up_dim": OUT, "bias": True}
BY_HEAD = dict.fromkeys("xy", "row step (head={num_heads} unit)")
HEADWISE = {"in_features": WIDTH, "num_heads": NH, "bias": True, "out_features": OUT}
CONV = {"conv.weight": "unit group tap", "state": "row tap unit"}
CROSS_ENTROPY = layers.softmax_cross_entropy, layers.softmax_cross_entropy_backward
STATELESS = [
    _layer("linear", layers.Linear, drawn, {"in_features": WIDTH, "out_features": OUT}),
    _layer("headwise-linear", layers.HeadwiseLinear, drawn, HEADWISE),
    _layer(
        "causal-conv1d",
        layers.CausalConv1d,
        drawn,
        {"feature_dim": WIDTH, "kernel_size": 4},
        CONV,
        situations=("ordinary", "no-state", "one-step", "no-step"),
    ),
    _layer("layer-norm", layers.LayerNorm, plain, NORM | ONE_PLUS),
    _layer("rms-norm", layers.RMSNorm, plain, NORM | FACTOR),
    _layer("multi-head-layer-norm", layers.MultiHeadLayerNorm, plain, NORMS | ONE_PLUS, BY_HEAD),
    _layer("multi-head-rms-norm", layers.MultiHeadRMSNorm, plain, NORMS | FACTOR, BY_HEAD),
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
        {"num_embeddings": FEW, "embedding_dim": WIDTH},
        {"weight": "token unit", "x": "row step"},
        tokens="num_embeddings",
    ),
    Loss(
        "layer.cross-entropy",
        CROSS_ENTROPY,
        function,
        {"": {"vocab_size": FEW}},
        {"x": "row step token", "targets": "row step", "y": ""},
        tokens="vocab_size",
        situations=("ordinary", "ignored"),
        public=partial(_same, CROSS_ENTROPY),
    ),
]
"""All subjects without recurrence."""

CONSTANTS = {"norm_eps": 1e-5, "residual_weight": True, "mlstm_eps": EPS}
"""Constants of the blocks of the xLSTM paper, which a port must know; no configuration has them."""
SHARED = {"num_heads": NH, "conv1d_kernel_size": 3}
COMMON = {**CONSTANTS, "embedding_dim": 8, **SHARED}
MLSTM_BLOCK: dict[str, Any] = {
    **COMMON,
    "qkv_proj_blocksize": 4,
    "proj_factor": 1.5,
    "round_proj_up_to_multiple_of": 4,
}
SLSTM_BLOCK: dict[str, Any] = {
    **COMMON,
    "ffn_proj_factor": 1.3,
    "ffn_round_proj_up_to_multiple_of": 2,
    "ffn_act_fn": "gelu",
}
LARGE_BLOCK: dict[str, Any] = {
    "embedding_dim": 8,
    "num_heads": NH,
    "chunk_size": CHUNK,
    "ffn_proj_factor": 1.3,
    "ffn_round_up_to_multiple_of": 4,
    "use_bias": True,
    "norm_eps": 1e-6,
    "eps": EPS,
    "gate_soft_cap": 15.0,
    "output_logit_soft_cap": 30.0,
}

BLOCK_AXES = {
    **dict.fromkeys("hc", "row unit"),
    "C": "row head key value",
    "n": "row head key",
    "m": "row head",
    "conv": "row tap unit",
    "conv.weight": "unit group tap",
    "_recurrent_kernel_": "head (gate=ifzo unit) from",
    "_bias_": "(gate=ifzo head={num_heads} unit)",
    "slstm.n": "row unit",
    "slstm.m": "row unit",
}
MODEL_AXES = {
    **BLOCK_AXES,
    "x": "row step",
    "y": "row step token",
    **dict.fromkeys(("token_embedding.weight", "embedding.weight", "head.weight"), "token unit"),
    "lm_head.weight": "token unit",
}


def mlstm_config(**options: Any) -> models.mLSTMBlockConfig:
    """Return the configuration of an mLSTM block."""
    chosen = {name: value for name, value in options.items() if name not in CONSTANTS}
    return models.mLSTMBlockConfig(models.mLSTMLayerConfig(**chosen))


def slstm_config(**options: Any) -> models.sLSTMBlockConfig:
    """Return the configuration of an sLSTM block with its feed-forward layer."""
    feed = {n.removeprefix("ffn_"): v for n, v in options.items() if n.startswith("ffn_")}
    layer = {n: v for n, v in options.items() if not n.startswith("ffn_") and n not in CONSTANTS}
    return models.sLSTMBlockConfig(
        models.sLSTMLayerConfig(**layer), models.FeedForwardConfig(**feed)
    )


def paper_config(**options: Any) -> models.xLSTMLMModelConfig:
    """Return the configuration of a model of the paper with an mLSTM and an sLSTM block."""
    own = {name: options.pop(name) for name in ("embedding_dim", "vocab_size", "tie_weights")}
    feed = {n: v for n, v in options.items() if n.startswith("ffn_")}
    return models.xLSTMLMModelConfig(
        mlstm_block=mlstm_config(**{n: v for n, v in options.items() if n not in feed}),
        slstm_block=slstm_config(**feed, **{n: v for n, v in options.items() if n in SHARED}),
        num_blocks=2,
        slstm_at=[1],
        bias=True,
        **own,
    )


def configured(config: Any, specification: Any, options: Options) -> Any:
    """Make a block or a model from its configuration, which is made from the options."""
    return specification(config(**options), rng=RNG)


def cell_model(specification: Any, options: Options) -> Any:
    """Make a model with one recurrent layer; the specification is the classes of both."""
    model, body = specification
    own = ("vocab_size", "embedding_size")
    rest = {name: value for name, value in options.items() if name not in own}
    layer = body(options["embedding_size"], **rest, rng=RNG)
    return model(*(options[name] for name in own), layer, rng=RNG)


STATES = ("ordinary", "no-state", "one-step")
PAPER = {**SLSTM_BLOCK, **MLSTM_BLOCK, "vocab_size": VOCABULARY}
ONE, TWO = ({**LARGE_BLOCK, "num_blocks": blocks, "vocab_size": VOCABULARY} for blocks in (1, 2))
CELL = {"vocab_size": VOCABULARY, "embedding_size": 5, "hidden_size": 6}
CELL_WITH_HEADS = {**CELL, "num_heads": NH}
LAYERS = {
    layers.LSTM: CELL,
    layers.sLSTM: CELL_WITH_HEADS,
    layers.mLSTM: {**CELL_WITH_HEADS, "qk_dim": 4, "eps": CASE_EPS},
}
"""Layers of models with one recurrent layer, and the options of such a model."""
TIED = {name: {**PAPER, "tie_weights": name == "tied"} for name in ("untied", "tied")}
MODES = {mode: {**TWO, "weight_mode": mode} for mode in ("single", "fused")}


def _block(name: str, block: Any, config: Any, options: Options, *more: str) -> Subject:
    make, situations = partial(configured, config), (*STATES, *more)
    return Subject(f"block.{name}", block, make, {"": options}, BLOCK_AXES, situations=situations)


def _model(name: str, model: Any, make: Any, variants: Any, *more: str) -> Subject:
    axes = MODEL_AXES | (dict.fromkeys("nm", "row unit") if name == "slstm" else {})
    known: Any = {"tokens": "vocab_size", "situations": (*STATES, *more)}
    return Subject(f"model.{name}", model, make, variants, axes, **known)


BLOCKS_AND_MODELS = [
    _block("mlstm", models.mLSTMBlock, mlstm_config, MLSTM_BLOCK, "tie"),
    _block("slstm", models.sLSTMBlock, slstm_config, SLSTM_BLOCK, "tie"),
    _block("xlstm-large", models.xLSTMLargeBlock, models.xLSTMLargeConfig, ONE),
    *(
        _model(layer.__name__.lower(), (models.LanguageModel, layer), cell_model, {"": options})
        for layer, options in LAYERS.items()
    ),
    _model("xlstm", models.xLSTMLMModel, partial(configured, paper_config), TIED, "tie"),
    _model("xlstm-large", models.xLSTMLarge, partial(configured, models.xLSTMLargeConfig), MODES),
]
"""Subjects of all blocks and models."""
