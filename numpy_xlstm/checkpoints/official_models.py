"""Models of the official packages, from a configuration and arrays."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.folders import CONFIGS, GENERATION, read_config, read_mapping
from numpy_xlstm.checkpoints.loading import Source, check_size, matched, meta_initialisation
from numpy_xlstm.checkpoints.official_configs import (
    OUTPUT_BIAS,
    from_transformers,
    from_yaml,
    with_generation_config,
)
from numpy_xlstm.checkpoints.tensors import Stored
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.models import (
    SpecialTokens,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.models.names import block_numbers, from_transformers_names, unwrapped

MODELS: dict[type, Callable[..., Any]] = {
    xLSTMLargeConfig: xLSTMLarge,
    xLSTMLMModelConfig: xLSTMLMModel,
    xLSTMBlockStackConfig: xLSTMBlockStack,
}
"""The model of each configuration."""


def open_official(
    path: Path, folder: Path, arrays: Mapping[str, Stored], layout: str | None
) -> tuple[str, Any, dict[str, Source], SpecialTokens, Stored | None]:
    """Return format, shape-only model, source of each parameter, special tokens and tied head.

    The last is the matrix of a tied head, if the file contains it in addition to that of the
    embedding.

    Raises
    ------
    CheckpointError
        If there is no configuration, or it is that of another model or does not fit the arrays.
    """
    found = read_config(folder)
    if found is None:
        raise CheckpointError(f"{path.name}: expected {' or '.join(CONFIGS)} next to it; got none")
    file, values = found
    arrays = from_transformers_names(unwrapped(arrays))
    _check_blocks(file, values, arrays)
    try:
        kind, config, tokens = _described(values)
        check_size(f"{file.name}: ", config, arrays)
        if isinstance(config, xLSTMLargeConfig):
            fused = any(name.endswith(".qkv_opreact.weight") for name in arrays)
            config.weight_mode = "fused" if fused else "single"  # the arrays decide, in both
        model = MODELS[type(config)](config, rng=meta_initialisation(arrays))
    except CheckpointError:
        raise
    except (ArithmeticError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file.name}: {error}") from error
    if kind == "transformers" and (folder / GENERATION).exists():
        tokens = _generation_tokens(folder / GENERATION, tokens)
    tied = _tied(model, arrays, values)
    expected = dict(model.params)
    if kind == "transformers":
        expected.pop(OUTPUT_BIAS, None)
        if values.get("tie_word_embeddings") and "lm_head.weight" not in arrays:
            expected.pop("lm_head.weight")
    sources = matched(expected, arrays, layout)
    if layout is None:
        _check_layout(file, config, sources)
    return kind, model, sources, tokens, tied


def _described(values: Mapping[str, Any]) -> tuple[str, Any, SpecialTokens]:
    """Return the format of a configuration, the configuration, and its special tokens."""
    if "model_type" in values:
        return "transformers", *from_transformers(values)
    config = from_yaml(values)
    kind = "xlstm-large" if isinstance(config, xLSTMLargeConfig) else "xlstm"
    return kind, config, SpecialTokens()


def _generation_tokens(file: Path, tokens: SpecialTokens) -> SpecialTokens:
    try:
        return with_generation_config(tokens, read_mapping(file))
    except OptionError as error:
        raise CheckpointError(f"{file.name}: {error}") from error


def _check_blocks(file: Path, values: Mapping[str, Any], arrays: Mapping[str, Stored]) -> None:
    """Refuse a wrong number of blocks before a model is built."""
    there = len(block_numbers(arrays))
    for name in ("num_blocks", "num_hidden_layers"):
        if values.get(name) is not None and values[name] != there:
            raise CheckpointError(
                f"{file.name}: {name}: expected {there}, as many as have arrays; "
                f"got {values[name]!r:.80}"
            )


def _tied(model: Any, arrays: dict[str, Stored], values: Mapping[str, Any]) -> Stored | None:
    """Use the matrix of a tied head for the embedding, or return it if there are both."""
    if not values.get("tie_weights") or getattr(model, "shared", None) is None:
        return None
    head, embedding = model.shared
    stored = arrays.pop(head, None)
    if stored is None or embedding in arrays:
        if stored is not None and stored.shape != arrays[embedding].shape:
            raise CheckpointError(
                f"{stored}: expected shape {arrays[embedding].shape}, as tied; got {stored.shape}"
            )
        return stored
    arrays[embedding] = stored
    return None


def _check_layout(file: Path, config: Any, sources: Mapping[str, Source]) -> None:
    """Refuse R and a configuration of different backends, because the layout of b is ambiguous."""
    if not isinstance(config, xLSTMBlockStackConfig) or config.slstm_block is None:
        return
    layer = config.slstm_block.slstm
    for source in sources.values():
        if source.num_heads > 1 and source.order not in (layer.backend, "canonical"):
            raise CheckpointError(
                f"{source.stored}: expected the layout of the backend {layer.backend!r}, as in "
                f"{file.name}; got R in that of {source.order!r}: pass the layout of the bias, "
                "layout='vanilla' or layout='cuda'"
            )
