"""Checkpoints of this package: parameters, bit for bit, and the configuration of a model."""

import json
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.description import Content, Format, Pretrained, Saving
from numpy_xlstm.checkpoints.files import as_json, own_metadata, write_arrays
from numpy_xlstm.checkpoints.kinds import kind_of
from numpy_xlstm.checkpoints.loading import building, check_size, matched, meta_initialisation
from numpy_xlstm.checkpoints.metadata import FORMAT, CheckpointMetadata
from numpy_xlstm.checkpoints.safetensors import CHECKSUM
from numpy_xlstm.checkpoints.tensors import HEADER_KEY
from numpy_xlstm.checkpoints.writing import stored_dtype, stored_dtypes
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.models import SpecialTokens
from numpy_xlstm.numerics import check_has
from numpy_xlstm.numerics.arrays import EXPONENTS

PREFIX = "model."
"""Prefix of the names of the parameters, and of no other array."""


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
        "dtype": stored_dtype(model, options.dtype),
        "tokenizer": None if tokenizer is None else tokenizer.to_dict(),
        "training": dict(options.training),
    }
    tokens = getattr(model, "special_tokens", SpecialTokens())
    if tokens != SpecialTokens():
        metadata["special_tokens"] = list(tokens)
    CheckpointMetadata.read("", json.loads(as_json(metadata)))
    parameters = {PREFIX + name: array for name, array in model.params.items()}
    dtypes = stored_dtypes(parameters, options.dtype)
    write_arrays(path, parameters | dict(arrays), metadata, dtypes)


def open_checkpoint(content: Content) -> Pretrained:
    """Open a checkpoint of this package."""
    path, tensors = content.path, content.tensors
    metadata = own_metadata(path, tensors)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path.name}: expected format version {FORMAT}; got {metadata.get('format')!r:.80}"
        )
    if CHECKSUM not in tensors.metadata:
        raise CheckpointError(f"{path.name}: expected the checksums of a checkpoint; got none")
    CheckpointMetadata.read("", metadata)
    extra = dict(tensors.arrays)
    stored = {n.removeprefix(PREFIX): extra.pop(n) for n in [*extra] if n.startswith(PREFIX)}
    kind, dtype = kind_of(metadata["kind"]), metadata["dtype"]
    dtypes = (dtype, "float32") if dtype in EXPONENTS else (dtype,)
    with building("config"):
        check_size("config.", metadata["config"], stored)
        model = kind.build(metadata["config"], meta_initialisation(stored))
    return Pretrained(
        path,
        SAFETENSORS.name,
        model,
        matched(model.params, stored, dtypes=dtypes),
        SpecialTokens.checked(*(metadata.get("special_tokens") or SpecialTokens())),
        metadata["tokenizer"],
        metadata["training"],
        extra=extra,
    )


SAFETENSORS: Format = Format(
    "safetensors",
    (object,),
    lambda content: HEADER_KEY in content.tensors.metadata,
    open_checkpoint,
    _write,
    ".safetensors",
)
"""Checkpoints of this package: the model, and everything else that is given."""
