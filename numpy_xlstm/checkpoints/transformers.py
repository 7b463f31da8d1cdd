"""The format of transformers: xLSTM Large as ``xLSTMForCausalLM``.

Fields may be absent when a configuration is read; they then have transformers' default. All fields
are written, with values for a CPU.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.description import Content, Format, Pretrained, Saving
from numpy_xlstm.checkpoints.files import write_folder
from numpy_xlstm.checkpoints.loading import building
from numpy_xlstm.checkpoints.tensors import read_mapping
from numpy_xlstm.checkpoints.xlstm_package import ON_A_CPU, open_official
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.models import SpecialTokens, with_weight_mode, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.models.state_dict import renamed
from numpy_xlstm.numerics import did_you_mean

OUTPUT_BIAS = "backbone.out_norm.bias"
"""Parameter of an xLSTMLarge with ``use_bias`` that transformers does not have."""

DEFAULTS = {
    **ON_A_CPU,
    "vocab_size": 50304,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_heads": 8,
    "ffn_proj_factor": 2.667,
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
    """Return the configuration and the special tokens of a ``config.json``."""
    if values["model_type"] != "xlstm":
        raise OptionError(f"model_type: expected 'xlstm'; got {values['model_type']!r}")
    given = {name: v for name, v in values.items() if not name.startswith("_")}
    for ours, theirs in (("embedding_dim", "hidden_size"), ("num_blocks", "num_hidden_layers")):
        sizes = {name: given[name] for name in (ours, theirs) if given.get(name) is not None}
        if len(set(map(str, sizes.values()))) > 1:
            raise OptionError(f"expected one number for {ours} and {theirs}; got {sizes}")
        given.pop(theirs, None)
        given[ours] = next(iter(sizes.values()), DEFAULTS[theirs])
    for name, expected in {**SAME, "cell_norm_eps": given.get("norm_eps", 1e-6)}.items():
        if name in given and given.pop(name) != expected:
            raise OptionError(f"{name}: expected {expected}; got {values[name]!r}")
    names = "bos_token_id", "eos_token_id", "pad_token_id"
    bos, eos, pad = (given.pop(name, DEFAULTS[name]) for name in names)
    insert_bos = bool(given.pop("force_bos_token_insert", False))
    tokens = SpecialTokens.checked(bos, eos, pad, insert_bos)
    fields = xLSTMLargeConfig.__dataclass_fields__
    defaults = {name: value for name, value in DEFAULTS.items() if name in fields}
    known = {name: value for name, value in given.items() if name not in WITHOUT_MEANING}
    for name in known.keys() - fields.keys():
        hint = did_you_mean(name, fields) or ", which may change the results"
        raise OptionError(f"expected the fields of an xLSTM; got {name!r}{hint}")
    known["add_out_norm"] = True  # transformers ignores this field
    return xLSTMLargeConfig.from_dict(defaults | known), tokens


def to_transformers(config: xLSTMLargeConfig, tokens: SpecialTokens, dtype: str) -> dict[str, Any]:
    """Return the ``config.json`` of a model for ``xLSTMForCausalLM``."""
    if not config.add_out_norm:
        raise CheckpointError(
            "add_out_norm: expected True, because transformers always has the norm; got False"
        )
    for name in ("gate_soft_cap", "output_logit_soft_cap"):
        if getattr(config, name) is None:
            raise CheckpointError(f"{name}: expected a number, for transformers; got None")
    # The default cache rounds widths up to multiples of 64, and does not fit other widths.
    cached = config.qk_dim % 64 == config.v_dim % 64 == 0
    # Without it, xlstm's kernels return outputs in this dtype, which must be that of the matrices.
    states = "float32" if cached or dtype == "float64" else dtype
    return {
        "architectures": ["xLSTMForCausalLM"],
        "model_type": "xlstm",
        "dtype": dtype,
        **config.to_dict(),
        **ON_A_CPU,
        "hidden_size": config.embedding_dim,
        "num_hidden_layers": config.num_blocks,
        "inference_state_dtype": states,
        "tie_word_embeddings": False,
        "use_cache": cached,
        "max_inference_chunksize": 16384,
        "bos_token_id": tokens.bos,
        "eos_token_id": list(tokens.eos) if len(tokens.eos) > 1 else next(iter(tokens.eos), None),
        "pad_token_id": tokens.pad,
    } | ({"force_bos_token_insert": True} if tokens.insert_bos else {})


def _read(content: Content) -> Pretrained | None:
    if "model_type" not in content.values:
        return None
    # a tied head may be absent
    if content.values.get("tie_word_embeddings") and "embedding.weight" in content.arrays:
        content.arrays.setdefault("lm_head.weight", content.arrays["embedding.weight"])

    def config_of(values: Mapping[str, Any]) -> tuple[xLSTMLargeConfig, SpecialTokens]:
        config, tokens = from_transformers(values)
        ids = {"bos": tokens.bos, "eos": tokens.eos, "pad": tokens.pad}
        file = content.folder / "generation_config.json"  # overrides config.json
        if file.exists():
            others = read_mapping(file)
            given = {name: others.get(f"{name}_token_id") for name in ids}
            ids |= {name: value for name, value in given.items() if value is not None}
        with building(file.name):
            return config, SpecialTokens.checked(**ids, insert_bos=tokens.insert_bos)

    return open_official(content, TRANSFORMERS.name, config_of, [OUTPUT_BIAS])


def _write(model: xLSTMLarge, path: Path, options: Saving) -> None:
    own = min((array.dtype for array in model.params.values()), key=lambda dtype: dtype.itemsize)
    model = with_weight_mode(model, "single")  # "fused" cannot be initialised there
    config = to_transformers(model.config, model.special_tokens, options.dtype or own.name)
    arrays = dict(model.params)
    if OUTPUT_BIAS in arrays and arrays.pop(OUTPUT_BIAS).any():
        raise CheckpointError(
            f"{OUTPUT_BIAS}: expected 0, because transformers has none; got other numbers"
        )
    arrays = renamed(arrays, r"^embedding\.", "backbone.embeddings.")
    write_folder(path, "config.json", config, arrays, options)


TRANSFORMERS = Format("transformers", (xLSTMLarge,), _read, _write)
"""``config.json`` and ``.safetensors`` files, for ``xLSTMForCausalLM.from_pretrained(path)``."""
