"""Subjects for blocks and small models; their options are flat versions of the configurations."""

from dataclasses import replace
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


def mlstm_block(specification: Any, options: Options) -> Any:
    """Make an mLSTM block."""
    return specification(mlstm_config(options), rng=RNG)


def slstm_block(specification: Any, options: Options) -> Any:
    """Make an sLSTM block."""
    return specification(slstm_config(options), rng=RNG)


def large(specification: Any, options: Options) -> Any:
    """Make a block or a model of xLSTM Large."""
    return specification(models.xLSTMLargeConfig(**options), rng=RNG)


def paper_model(specification: Any, options: Options) -> Any:
    """Make a model of the xLSTM paper with an mLSTM and an sLSTM block."""
    own = {name: options[name] for name in ("embedding_dim", "vocab_size", "tie_weights")}
    rest = {n: v for n, v in options.items() if n not in own}
    shared = {"num_heads", "conv1d_kernel_size"}
    mlstm = {n: v for n, v in rest.items() if not n.startswith("ffn_")}
    slstm = {n: v for n, v in rest.items() if n.startswith("ffn_") or n in shared}
    config = models.xLSTMLMModelConfig(
        mlstm_block=mlstm_config(mlstm),
        slstm_block=slstm_config(slstm),
        num_blocks=2,
        slstm_at=[1],
        bias=True,
        **own,
    )
    return specification(config, rng=RNG)


def cell_model(specification: Any, options: Options) -> Any:
    """Make a model with one recurrent layer; the specification is the classes of both."""
    model, body = specification
    own = ("vocab_size", "embedding_size")
    rest = {name: value for name, value in options.items() if name not in own}
    layer = body(options["embedding_size"], **rest, rng=RNG)
    return model(*(options[name] for name in own), layer, rng=RNG)


def _models() -> list[Subject]:
    states = ("ordinary", "no-state", "one-step")
    paper = {**SLSTM, **MLSTM, "vocab_size": V}
    large_model = {**LARGE, "num_blocks": 2, "vocab_size": V}
    cell = {"vocab_size": V, "embedding_size": 5, "hidden_size": 6}
    slstm = {**cell, "num_heads": NH}
    memory = {**slstm, "qk_dim": 4, "eps": 2.0**-20}
    recurrent_models: list[tuple[str, Any, Any, dict[str, Options]]] = [
        ("lstm", (models.LanguageModel, layers.LSTM), cell_model, {"": cell}),
        ("slstm", (models.LanguageModel, layers.sLSTM), cell_model, {"": slstm}),
        ("mlstm", (models.LanguageModel, layers.mLSTM), cell_model, {"": memory}),
        (
            "xlstm",
            models.xLSTMLMModel,
            paper_model,
            {n: {**paper, "tie_weights": n == "tied"} for n in ("untied", "tied")},
        ),
        (
            "xlstm-large",
            models.xLSTMLarge,
            large,
            {mode: {**large_model, "weight_mode": mode} for mode in ("single", "fused")},
        ),
    ]
    blocks: list[tuple[str, Any, Any, Options]] = [
        ("mlstm", models.mLSTMBlock, mlstm_block, MLSTM),
        ("slstm", models.sLSTMBlock, slstm_block, SLSTM),
        ("xlstm-large", models.xLSTMLargeBlock, large, {**LARGE, "vocab_size": V, "num_blocks": 1}),
    ]
    found = [Subject(f"block.{n}", s, m, {"": o}, AXES) for n, s, m, o in blocks]
    for name, model, make, variants in recurrent_models:
        axes = TOKENS | ({"n": "row unit", "m": "row unit"} if name == "slstm" else {})
        found.append(Subject(f"model.{name}", model, make, variants, axes, tokens="vocab_size"))
    ties = {"block.mlstm", "block.slstm", "model.xlstm"}
    return [
        replace(subject, situations=(*states, "tie") if subject.name in ties else states)
        for subject in found
    ]


BLOCKS_AND_MODELS = _models()
