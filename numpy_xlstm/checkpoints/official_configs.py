"""Configurations of the official packages, in and out: of transformers, and of both in ``xlstm``.

What is read may leave out fields, which then have the default of the package it comes from. What is
written leaves out nothing, and makes the model run on a CPU.
"""

from collections.abc import Mapping
from typing import Any

from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.models import (
    SpecialTokens,
    xLSTMBlockStackConfig,
    xLSTMLargeConfig,
    xLSTMLMModelConfig,
)
from numpy_xlstm.numerics import did_you_mean

OUTPUT_BIAS = "backbone.out_norm.bias"
"""What xLSTMLarge has with ``use_bias``, and transformers has not."""

CONTEXT_LENGTH = 2048
"""What is written for a ``context_length`` of −1, with which the official model cannot be built."""

ON_A_CPU = {
    "chunkwise_kernel": "chunkwise--native_autograd",
    "sequence_kernel": "native_sequence__native",
    "step_kernel": "native",
    "mode": "inference",
    "return_last_states": True,
    "autocast_kernel_dtype": "float32",
    "inference_state_dtype": "float32",
}
"""Kernels that need no GPU, and number formats that lose nothing; any length, states returned."""

TRANSFORMERS = {
    "vocab_size": 50304,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_heads": 8,
    "ffn_proj_factor": 2.667,
    "mode": "inference",
    "return_last_states": True,
    "chunkwise_kernel": "chunkwise--native_autograd",
    "sequence_kernel": "native_sequence__native",
    "step_kernel": "native",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
"""The defaults of transformers' xLSTMConfig that xLSTMLargeConfig has not."""

SAME = {
    "add_embedding_dropout": False,
    "add_post_blocks_norm": True,
    "add_post_norm": False,
    "add_qk_norm": False,
    "quantization_config": None,
}
"""Fields of older official files that change the model, with the value that leaves it as it is."""

WITHOUT_MEANING = frozenset(
    """
    add_forward_backend_padding architectures attn_implementation auto_map chunk_size_feed_forward
    dtype finetuning_task forward_backend_name head_dim id2label
    igate_bias_init_range initializer_range is_decoder is_encoder_decoder label2id max_length
    max_inference_chunksize mlstm_round_up_to_multiple_of model_type name_or_path num_labels
    output_attentions output_hidden_states prefix problem_type return_dict sep_token_id
    step_backend_name tie_word_embeddings tokenizer_class torch_dtype transformers_version
    use_cache use_return_dict
    """.split()  # noqa: SIM905
)
"""Fields of transformers' files that do not change what the model computes.

With ``tie_word_embeddings``, the two matrices are in the file, or the one that counts for both.
"""


def from_transformers(values: Mapping[str, Any]) -> tuple[xLSTMLargeConfig, SpecialTokens]:
    """Return the configuration, and the tokens with a meaning, of a ``config.json``.

    Raises
    ------
    OptionError
        If it is of another model, a field is unknown, contradicts another or asks for what this
        model is not, or a value is not what it should be.
    """
    if values["model_type"] != "xlstm":
        raise OptionError(f"model_type: expected 'xlstm'; got {values['model_type']!r}")
    given = {name: v for name, v in values.items() if not name.startswith("_")}
    for ours, theirs in (("embedding_dim", "hidden_size"), ("num_blocks", "num_hidden_layers")):
        found = {name: given[name] for name in (ours, theirs) if given.get(name) is not None}
        if len(set(map(str, found.values()))) > 1:
            raise OptionError(f"expected one number for {ours} and {theirs}; got {found}")
        given.pop(theirs, None)
        given[ours] = next(iter(found.values()), TRANSFORMERS[theirs])
    for name, expected in {**SAME, "cell_norm_eps": given.get("norm_eps", 1e-6)}.items():
        if name in given and given.pop(name) != expected:
            raise OptionError(f"{name}: expected {expected}; got {values[name]!r}")
    names = "bos_token_id", "eos_token_id", "pad_token_id"
    bos, eos, pad = (given.pop(name, TRANSFORMERS[name]) for name in names)
    insert_bos = bool(given.pop("force_bos_token_insert", False))
    tokens = SpecialTokens.checked(bos, eos, pad, insert_bos)
    fields = xLSTMLargeConfig.__dataclass_fields__
    defaults = {name: value for name, value in TRANSFORMERS.items() if name in fields}
    known = {name: value for name, value in given.items() if name not in WITHOUT_MEANING}
    for name in known.keys() - fields.keys():
        hint = did_you_mean(name, fields) or ", which may change what it computes"
        raise OptionError(f"expected the fields of an xLSTM; got {name!r}{hint}")
    known["add_out_norm"] = True  # transformers has the norm whatever this field says
    return xLSTMLargeConfig.from_dict(defaults | known), tokens


def with_generation_config(tokens: SpecialTokens, values: Mapping[str, Any]) -> SpecialTokens:
    """Return the tokens with what a ``generation_config.json``, which comes first, says of them."""
    ids = {"bos": tokens.bos, "eos": tokens.eos, "pad": tokens.pad}
    for name in ids:
        if values.get(f"{name}_token_id") is not None:
            ids[name] = values[f"{name}_token_id"]
    return SpecialTokens.checked(**ids, insert_bos=tokens.insert_bos)


def to_transformers(config: xLSTMLargeConfig, tokens: SpecialTokens, dtype: str) -> dict[str, Any]:
    """Return the ``config.json`` of such a model for ``xLSTMForCausalLM``.

    Raises
    ------
    CheckpointError
        If transformers has no such model.
    """
    if not config.add_out_norm:
        raise CheckpointError(
            "add_out_norm: expected True, the only model of transformers; got False"
        )
    for name in ("gate_soft_cap", "output_logit_soft_cap"):
        if getattr(config, name) is None:
            raise CheckpointError(f"{name}: expected a number, for transformers; got None")
    widths = config.qk_dim, config.v_dim
    return {
        "architectures": ["xLSTMForCausalLM"],
        "model_type": "xlstm",
        "dtype": dtype,
        **large_fields(config),
        "hidden_size": config.embedding_dim,
        "num_hidden_layers": config.num_blocks,
        "tie_word_embeddings": False,
        # The cache that it makes itself has widths rounded up to 64, so that others need their own.
        "use_cache": all(width % 64 == 0 for width in widths),
        "max_inference_chunksize": 16384,
        "bos_token_id": tokens.bos,
        "eos_token_id": list(tokens.eos) if len(tokens.eos) > 1 else next(iter(tokens.eos), None),
        "pad_token_id": tokens.pad,
    } | ({"force_bos_token_insert": True} if tokens.insert_bos else {})


def large_fields(config: xLSTMLargeConfig) -> dict[str, Any]:
    """Return what ``xlstm``'s xLSTMLargeConfig takes, every field, so that it runs on a CPU."""
    return config.to_dict() | ON_A_CPU


def paper_fields(config: xLSTMBlockStackConfig, layout: str) -> dict[str, Any]:
    """Return what ``xlstm``'s xLSTMLMModelConfig, or xLSTMBlockStackConfig, takes, nested.

    ``layout`` is that of the sLSTM's parameters, and with it the backend that reads them.

    Raises
    ------
    CheckpointError
        If the package cannot run such a model.
    """
    _check_runs(config)
    values = config.to_dict()
    places = [n for n, kind in enumerate(config.kinds) if kind == "slstm"]
    length = config.context_length if config.context_length > 0 else CONTEXT_LENGTH
    values |= {"slstm_at": places, "context_length": length}
    shared = {"embedding_dim": config.embedding_dim, "dropout": config.dropout}
    if values["mlstm_block"] is not None:
        layer = values["mlstm_block"]["mlstm"]
        layer |= shared | {"bias": config.bias, "context_length": length}
    if values["slstm_block"] is not None:
        block, layer = values["slstm_block"], values["slstm_block"]["slstm"]
        layer |= shared | {"hidden_size": config.embedding_dim, "backend": layout}
        if layout == "vanilla":  # the number formats of the GPU's kernels
            layer |= {"dtype": "float32", "enable_automatic_mixed_precision": False}
        if layer["bias_init"] == "zeros":  # not theirs, and the bias is in the file
            layer["bias_init"] = "standard"
        if block["feedforward"] is not None:
            block["feedforward"]["embedding_dim"] = config.embedding_dim
    return values


def _check_runs(config: xLSTMBlockStackConfig) -> None:
    """Raise :class:`CheckpointError` for a model that ``xlstm`` cannot build, or not run."""
    for kind in ("mlstm", "slstm"):
        block = getattr(config, f"{kind}_block")
        if config.count(kind) and getattr(block, kind).conv1d_kernel_size == 1:
            raise CheckpointError(
                f"{kind}_block.{kind}.conv1d_kernel_size: expected any but 1, with which the "
                "convolution of xlstm has no outputs; got 1"
            )
    up = None if config.slstm_block is None else config.slstm_block.feedforward
    if up is not None and up.act_fn == "gelu_tanh":
        raise CheckpointError(
            "slstm_block.feedforward.act_fn: expected one that xlstm has, such as 'gelu'; "
            "got 'gelu_tanh'"
        )


def from_yaml(values: Mapping[str, Any]) -> Any:
    """Return the configuration that such fields are of: Large, a language model, or a stack.

    Raises
    ------
    OptionError
        If they are of none, a field is unknown or missing, or a value not what it should be.
    """
    names = {str(name) for name in values}
    if names & {"mlstm_block", "slstm_block"}:
        return (xLSTMLMModelConfig if "vocab_size" in names else xLSTMBlockStackConfig).from_dict(
            values
        )
    if {"embedding_dim", "num_heads"} <= names:
        return xLSTMLargeConfig.from_dict(values)
    raise OptionError(
        "expected the fields of an xLSTM, with mlstm_block or slstm_block, or with embedding_dim "
        f"and num_heads; got {sorted(names)[:8]}"
    )
