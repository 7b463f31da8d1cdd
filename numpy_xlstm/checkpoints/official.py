"""Opening of models of the official packages, from a configuration and arrays."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.description import Content, Format, Pretrained
from numpy_xlstm.checkpoints.folders import TOKENIZER
from numpy_xlstm.checkpoints.loading import (
    Source,
    building,
    check_size,
    matched,
    meta_initialisation,
)
from numpy_xlstm.checkpoints.tensors import Stored
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.models import (
    SpecialTokens,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)

MODELS: dict[type, Callable[..., Any]] = {
    xLSTMLargeConfig: xLSTMLarge,
    xLSTMLMModelConfig: xLSTMLMModel,
    xLSTMBlockStackConfig: xLSTMBlockStack,
}
"""The model of each configuration."""

Described = Callable[[Mapping[str, Any]], tuple[Any, SpecialTokens]]
"""Function from the values of a configuration to the configuration and its special tokens."""


def open_official(
    content: Content,
    form: Format,
    described: Described,
    derived: Mapping[str, str | None] | None = None,
) -> Pretrained:
    """Open a model of an official package. ``derived`` are parameters that are not in the file."""
    assert content.config is not None, "the format is recognised by its configuration"
    file, values = content.config
    arrays = dict(content.arrays)
    check_size(f"{file.name}: ", values, arrays)
    with building(file.name):
        config, tokens = described(values)
        if isinstance(config, xLSTMLargeConfig):
            fused = any(name.endswith(".qkv_opreact.weight") for name in arrays)
            mode: Any = "fused" if fused else "single"  # set by the arrays in both formats
            config = replace(config, weight_mode=mode)
        model = MODELS[type(config)](config, rng=meta_initialisation(arrays))
    tied = _tied(model, arrays, values)
    absent = {name: equal for name, equal in (derived or {}).items() if name in model.params}
    expected = {name: array for name, array in model.params.items() if name not in absent}
    sources = matched(expected, arrays, content.layout)
    if content.layout is None:
        _check_layout(file, config, sources)
    tokenizer = content.folder / TOKENIZER
    return Pretrained(
        content.path,
        form.name,
        model,
        sources,
        tokens,
        tokenizer if tokenizer.exists() else None,
        tied=tied,
        derived=absent,
    )


def _tied(model: Any, arrays: dict[str, Stored], values: Mapping[str, Any]) -> Stored | None:
    """Move the matrix of a tied head to the embedding, or return it if both are stored."""
    if not values.get("tie_weights") or getattr(model, "shared", None) is None:
        return None
    head, embedding = model.shared
    stored = arrays.pop(head, None)
    if stored is None or embedding in arrays:
        if stored is not None and stored.shape != arrays[embedding].shape:
            raise CheckpointError(
                f"{stored}: expected shape {arrays[embedding].shape}, as the embedding to which it "
                f"is tied; got {stored.shape}"
            )
        return stored
    arrays[embedding] = stored
    return None


def _check_layout(file: Path, config: Any, sources: Mapping[str, Source]) -> None:
    """Refuse an R in another layout than the configuration's: that of b is then unknown."""
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
