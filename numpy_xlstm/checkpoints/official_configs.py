"""Conversion of configurations from and to transformers and both models in ``xlstm``.

Fields may be absent when a configuration is read; they then have the default of its package. All
fields are written, with values that run on a CPU.
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
"""Parameter of xLSTMLarge with ``use_bias`` that is absent in transformers."""

CONTEXT_LENGTH = 2048
"""Value written for a ``context_length`` of −1, which the official model does not support."""

ON_A_CPU = {
    "chunkwise_kernel": "chunkwise--native_autograd",
    "sequence_kernel": "native_sequence__native",
    "step_kernel": "native",
    "mode": "inference",
    "return_last_states": True,
    "autocast_kernel_dtype": "float32",
    "inference_state_dtype": "float32",
}
"""Kernels without a GPU, exact number formats, sequences of any length, and returned states."""

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
"""Defaults of transformers' xLSTMConfig that xLSTMLargeConfig does not have."""

SAME = {
    "add_embedding_dropout": False,
    "add_post_blocks_norm": True,
    "add_post_norm": False,
    "add_qk_norm": False,
    "quantization_config": None,
}
"""Fields of older official files that would change the model, with the only supported value."""

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
"""Fields of transformers' files that do not change the model.

With ``tie_word_embeddings``, the file contains both matrices, or one that is used for both.
"""


def from_transformers(values: Mapping[str, Any]) -> tuple[xLSTMLargeConfig, SpecialTokens]:
    """Return the configuration and the special tokens of a ``config.json``.

    Raises
    ------
    OptionError
        If it is the configuration of another model, a field is unknown, not supported or
        contradicts another, or a value is invalid.
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
    known["add_out_norm"] = True  # transformers ignores this field
    return xLSTMLargeConfig.from_dict(defaults | known), tokens


def with_generation_config(tokens: SpecialTokens, values: Mapping[str, Any]) -> SpecialTokens:
    """Return the special tokens, overridden by those of a ``generation_config.json``."""
    ids = {"bos": tokens.bos, "eos": tokens.eos, "pad": tokens.pad}
    for name in ids:
        if values.get(f"{name}_token_id") is not None:
            ids[name] = values[f"{name}_token_id"]
    return SpecialTokens.checked(**ids, insert_bos=tokens.insert_bos)


def to_transformers(config: xLSTMLargeConfig, tokens: SpecialTokens, dtype: str) -> dict[str, Any]:
    """Return the ``config.json`` of a model for ``xLSTMForCausalLM``.

    Raises
    ------
    CheckpointError
        If transformers does not support the model.
    """
    if not config.add_out_norm:
        raise CheckpointError(
            "add_out_norm: expected True, because transformers always has the norm; got False"
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
        # The default cache has widths rounded up to 64, so other widths need their own cache.
        "use_cache": all(width % 64 == 0 for width in widths),
        "max_inference_chunksize": 16384,
        "bos_token_id": tokens.bos,
        "eos_token_id": list(tokens.eos) if len(tokens.eos) > 1 else next(iter(tokens.eos), None),
        "pad_token_id": tokens.pad,
    } | ({"force_bos_token_insert": True} if tokens.insert_bos else {})


def large_fields(config: xLSTMLargeConfig) -> dict[str, Any]:
    """Return all fields of ``xlstm``'s xLSTMLargeConfig, with values that run on a CPU."""
    return config.to_dict() | ON_A_CPU


def paper_fields(config: xLSTMBlockStackConfig, layout: str) -> dict[str, Any]:
    """Return the nested fields of ``xlstm``'s xLSTMLMModelConfig or xLSTMBlockStackConfig.

    ``layout`` is that of the sLSTM's parameters, and also the backend that reads them.

    Raises
    ------
    CheckpointError
        If the package cannot run the model.
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
        if layer["bias_init"] == "zeros":  # unknown to xlstm; the file has the bias
            layer["bias_init"] = "standard"
        if block["feedforward"] is not None:
            block["feedforward"]["embedding_dim"] = config.embedding_dim
    return values


def _check_runs(config: xLSTMBlockStackConfig) -> None:
    """Raise :class:`CheckpointError` for a model that ``xlstm`` cannot build or run."""
    for kind in ("mlstm", "slstm"):
        block = getattr(config, f"{kind}_block")
        if config.count(kind) and getattr(block, kind).conv1d_kernel_size == 1:
            raise CheckpointError(
                f"{kind}_block.{kind}.conv1d_kernel_size: expected a number other than 1, with "
                "which the convolution of xlstm has no outputs; got 1"
            )
    up = None if config.slstm_block is None else config.slstm_block.feedforward
    if up is not None and up.act_fn == "gelu_tanh":
        raise CheckpointError(
            "slstm_block.feedforward.act_fn: expected a function of xlstm, such as 'gelu'; "
            "got 'gelu_tanh'"
        )


def from_yaml(values: Mapping[str, Any]) -> Any:
    """Return the configuration with these fields: that of Large, a language model, or a stack.

    Raises
    ------
    OptionError
        If the fields belong to none of these, a field is unknown or missing, or a value is invalid.
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
