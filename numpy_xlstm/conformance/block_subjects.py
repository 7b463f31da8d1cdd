"""Subjects for blocks and small models; their options are flat versions of the configurations."""

from functools import partial
from typing import Any

from numpy_xlstm import layers, models
from numpy_xlstm.cells.mlstm import EPS
from numpy_xlstm.conformance.subjects import RNG, Options, Subject

NH, V, T_CHUNK = 2, 11, 3
CONSTANTS = {"norm_eps": 1e-5, "residual_weight": True, "mlstm_eps": EPS}
"""Constants of the blocks of the xLSTM paper, which a port must know; no configuration has them."""
MLSTM: dict[str, Any] = {
    **CONSTANTS,
    "embedding_dim": 8,
    "num_heads": NH,
    "conv1d_kernel_size": 3,
    "qkv_proj_blocksize": 4,
    "proj_factor": 1.5,
    "round_proj_up_to_multiple_of": 4,
}
SLSTM: dict[str, Any] = {
    **CONSTANTS,
    "embedding_dim": 8,
    "num_heads": NH,
    "conv1d_kernel_size": 3,
    "ffn_proj_factor": 1.3,
    "ffn_round_proj_up_to_multiple_of": 2,
    "ffn_act_fn": "gelu",
}
LARGE: dict[str, Any] = {
    "embedding_dim": 8,
    "num_heads": NH,
    "chunk_size": T_CHUNK,
    "ffn_proj_factor": 1.3,
    "ffn_round_up_to_multiple_of": 4,
    "use_bias": True,
    "norm_eps": 1e-6,
    "eps": EPS,
    "gate_soft_cap": 15.0,
    "output_logit_soft_cap": 30.0,
}

AXES = {
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
TOKENS = {
    **AXES,
    "x": "row step",
    "y": "row step token",
    **dict.fromkeys(("token_embedding.weight", "embedding.weight", "head.weight"), "token unit"),
    "lm_head.weight": "token unit",
}


def chosen(options: Options) -> Options:
    """Return the options that a configuration has."""
    return {name: value for name, value in options.items() if name not in CONSTANTS}


def mlstm_config(options: Options) -> models.mLSTMBlockConfig:
    """Return the configuration of an mLSTM block."""
    return models.mLSTMBlockConfig(models.mLSTMLayerConfig(**chosen(options)))


def slstm_config(options: Options) -> models.sLSTMBlockConfig:
    """Return the configuration of an sLSTM block with its feed-forward layer."""
    feed = {n.removeprefix("ffn_"): v for n, v in options.items() if n.startswith("ffn_")}
    layer = {n: v for n, v in chosen(options).items() if not n.startswith("ffn_")}
    return models.sLSTMBlockConfig(
        models.sLSTMLayerConfig(**layer), models.FeedForwardConfig(**feed)
    )


def large_config(options: Options) -> models.xLSTMLargeConfig:
    """Return the configuration of a block or a model of xLSTM Large."""
    return models.xLSTMLargeConfig(**options)


def paper_config(options: Options) -> models.xLSTMLMModelConfig:
    """Return the configuration of a model of the paper with an mLSTM and an sLSTM block."""
    own = {name: options[name] for name in ("embedding_dim", "vocab_size", "tie_weights")}
    rest = {n: v for n, v in options.items() if n not in own}
    shared = {"num_heads", "conv1d_kernel_size"}
    mlstm = {n: v for n, v in rest.items() if not n.startswith("ffn_")}
    slstm = {n: v for n, v in rest.items() if n.startswith("ffn_") or n in shared}
    return models.xLSTMLMModelConfig(
        mlstm_block=mlstm_config(mlstm),
        slstm_block=slstm_config(slstm),
        num_blocks=2,
        slstm_at=[1],
        bias=True,
        **own,
    )


def configured(config: Any, specification: Any, options: Options) -> Any:
    """Make a block or a model from its configuration, which is a function of the options."""
    return specification(config(options), rng=RNG)


def cell_model(specification: Any, options: Options) -> Any:
    """Make a model with one recurrent layer; the specification is the classes of both."""
    model, body = specification
    own = ("vocab_size", "embedding_size")
    rest = {name: value for name, value in options.items() if name not in own}
    layer = body(options["embedding_size"], **rest, rng=RNG)
    return model(*(options[name] for name in own), layer, rng=RNG)


STATES = ("ordinary", "no-state", "one-step")
PAPER = {**SLSTM, **MLSTM, "vocab_size": V}
ONE, TWO = ({**LARGE, "num_blocks": blocks, "vocab_size": V} for blocks in (1, 2))
CELL = {"vocab_size": V, "embedding_size": 5, "hidden_size": 6}
HEADS = {**CELL, "num_heads": NH}
LAYERS = {
    layers.LSTM: CELL,
    layers.sLSTM: HEADS,
    layers.mLSTM: {**HEADS, "qk_dim": 4, "eps": 2.0**-20},
}
"""Layers of models with one recurrent layer, and the options of such a model."""
TIED = {name: {**PAPER, "tie_weights": name == "tied"} for name in ("untied", "tied")}
MODES = {mode: {**TWO, "weight_mode": mode} for mode in ("single", "fused")}


def _block(name: str, block: Any, config: Any, options: Options, *more: str) -> Subject:
    make, situations = partial(configured, config), (*STATES, *more)
    return Subject(f"block.{name}", block, make, {"": options}, AXES, situations=situations)


def _model(name: str, model: Any, make: Any, variants: Any, *more: str) -> Subject:
    axes = TOKENS | (dict.fromkeys("nm", "row unit") if name == "slstm" else {})
    known: Any = {"tokens": "vocab_size", "situations": (*STATES, *more)}
    return Subject(f"model.{name}", model, make, variants, axes, **known)


BLOCKS_AND_MODELS = [
    _block("mlstm", models.mLSTMBlock, mlstm_config, MLSTM, "tie"),
    _block("slstm", models.sLSTMBlock, slstm_config, SLSTM, "tie"),
    _block("xlstm-large", models.xLSTMLargeBlock, large_config, ONE),
    *(
        _model(layer.__name__.lower(), (models.LanguageModel, layer), cell_model, {"": options})
        for layer, options in LAYERS.items()
    ),
    _model("xlstm", models.xLSTMLMModel, partial(configured, paper_config), TIED, "tie"),
    _model("xlstm-large", models.xLSTMLarge, partial(configured, large_config), MODES),
]
"""Subjects of all blocks and models."""
