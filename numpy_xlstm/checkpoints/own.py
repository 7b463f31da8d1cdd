"""Checkpoints of this package: parameters, bit for bit, and the configuration of a model."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.description import Content, Format, Pretrained, Saving
from numpy_xlstm.checkpoints.files import as_json, dtypes_of, own_metadata, write_file
from numpy_xlstm.checkpoints.kinds import kind_of
from numpy_xlstm.checkpoints.loading import building, matched, meta_initialisation
from numpy_xlstm.checkpoints.safetensors import CHECKSUM
from numpy_xlstm.checkpoints.tensors import HEADER_KEY
from numpy_xlstm.checkpoints.writing import stored_dtypes
from numpy_xlstm.config import Config, Count, Real
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.generation.tokenizers import TokenizerDescription
from numpy_xlstm.models import SpecialTokens
from numpy_xlstm.numerics import check_has

FORMAT = 1
"""Version of the format."""

PREFIX = "model."
"""Prefix of the names of the parameters, and of no other array."""


@dataclass(frozen=True)
class CheckpointMetadata(Config):
    """Metadata of a checkpoint. ``config`` is checked by the kind of model."""

    format: int
    kind: str
    config: dict[str, Any]
    tokenizer: TokenizerDescription | None
    training: dict[str, Any]
    dtype: str | None = None  # in files of earlier versions
    special_tokens: tuple[Count | None, list[Count], Count | None, bool] | None = None

    def __post_init__(self) -> None:
        """Check the fields, and the fields that every training has."""
        super().__post_init__()
        Progress.read("training", self.training, others=True)


@dataclass(frozen=True)
class Progress(Config):
    """Fields of any training. A validation is a step and its result in bits."""

    step: Count = 0
    tokens: Count = 0
    validations: list[tuple[Count, Real]] = field(default_factory=list)


def _write(model: Any, path: Path, options: Saving) -> None:
    arrays, tokenizer = options.arrays, options.tokenizer
    if tokenizer is not None:
        check_has("tokenizer", tokenizer, "to_dict")
    if mine := [name for name in map(str, arrays) if name.startswith(PREFIX)]:
        raise CheckpointError(f"arrays: expected names without prefix {PREFIX!r}; got {mine[0]!r}")
    kind = type(model).__name__
    metadata = {
        "format": FORMAT,
        "kind": kind,
        "config": kind_of(kind).describe(model),
        "tokenizer": None if tokenizer is None else tokenizer.to_dict(),
        "training": dict(options.training),
    }
    tokens = getattr(model, "special_tokens", SpecialTokens())
    if tokens != SpecialTokens():
        metadata["special_tokens"] = list(tokens)
    text = as_json(metadata)
    CheckpointMetadata.read("", json.loads(text))
    dtypes = stored_dtypes(model.params, options.dtype)
    dtypes = dtypes_of(arrays) | {PREFIX + name: dtype for name, dtype in dtypes.items()}
    parameters = {PREFIX + name: array for name, array in model.params.items()}
    write_file(path, parameters | dict(arrays), dtypes, {HEADER_KEY: text})


def open_checkpoint(content: Content) -> Pretrained:
    """Open a checkpoint of this package."""
    path, metadata = content.path, own_metadata(content.path, content.metadata)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path.name}: expected format version {FORMAT}; got {metadata.get('format')!r:.80}"
        )
    if CHECKSUM not in content.metadata:
        raise CheckpointError(f"{path.name}: expected the checksums of a checkpoint; got none")
    CheckpointMetadata.read("", metadata)
    extra = dict(content.tensors)
    stored = {n.removeprefix(PREFIX): extra.pop(n) for n in [*extra] if n.startswith(PREFIX)}
    dtypes = sorted({array.dtype for array in stored.values()})
    if "float64" in dtypes and len(dtypes) > 1:
        raise CheckpointError(f"{path.name}: expected parameters of one dtype; got {dtypes}")
    kind = kind_of(metadata["kind"])
    rng = meta_initialisation("config.", metadata["config"], stored)
    with building("config"):
        model = kind.build(metadata["config"], rng)
    sources = matched(path.name, model.params, stored)
    tokens = SpecialTokens.checked(*(metadata.get("special_tokens") or SpecialTokens()))
    tokenizer, training = metadata["tokenizer"], metadata["training"]
    return Pretrained(path, SAFETENSORS.name, model, sources, tokens, tokenizer, training, extra)


SAFETENSORS: Format = Format(
    "safetensors",
    (object,),
    lambda content: HEADER_KEY in content.metadata,
    open_checkpoint,
    _write,
    ".safetensors",
)
"""Checkpoints of this package: the model, and everything else that is given."""
