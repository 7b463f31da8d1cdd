"""Checkpoints of this package: parameters, bit for bit, and the configuration of a model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy_xlstm.checkpoints.description import Content, Format, Pretrained
from numpy_xlstm.checkpoints.files import as_json, own_metadata, write_arrays
from numpy_xlstm.checkpoints.kinds import kind_of
from numpy_xlstm.checkpoints.loading import building, check_size, matched, meta_initialisation
from numpy_xlstm.checkpoints.metadata import FORMAT, CheckpointMetadata
from numpy_xlstm.checkpoints.safetensors import CHECKSUM
from numpy_xlstm.checkpoints.tensors import HEADER_KEY, check_memory, open_tensors
from numpy_xlstm.checkpoints.writing import stored_dtype, stored_dtypes
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.generation import Tokenizer
from numpy_xlstm.layers import Recurrent
from numpy_xlstm.models import SpecialTokens
from numpy_xlstm.numerics import (
    Array,
    check_has,
    check_kind,
    checked_path,
)
from numpy_xlstm.numerics.narrow import EXPONENTS

PREFIX = "model."
"""Prefix of the names of the parameters, and of no other array."""


class Checkpoint(NamedTuple):
    """Content of a checkpoint.

    Parameters
    ----------
    model
        The model.
    tokenizer : Tokenizer or None
        The tokenizer of the model.
    training : dict
        Values about the training; empty if there are none.
    arrays : dict[str, np.ndarray]
        Arrays other than the parameters, of any shape, such as an optimiser's moments.

    Examples
    --------
    >>> import tempfile
    >>> from numpy_xlstm import LSTM, load_checkpoint, save_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/lstm.safetensors", LSTM(3, 4))
    ...     checkpoint = load_checkpoint(f"{folder}/lstm.safetensors")
    >>> checkpoint.model.hidden_size, checkpoint.tokenizer, checkpoint.training
    (4, None, {})
    """

    model: Any
    tokenizer: Tokenizer | None
    training: dict[str, Any]
    arrays: dict[str, Array]


def save_checkpoint(
    path: str | Path,
    model: Recurrent,
    *,
    tokenizer: Tokenizer | None = None,
    training: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Array] | None = None,
    dtype: str | None = None,
) -> None:
    """Write a model to a file atomically.

    Parameters
    ----------
    path : str or Path
        ``*.safetensors``. At any time, the file has either the complete old or the complete new
        content.
    model : Recurrent
        A language model, an :class:`xLSTMBlockStack`, or one of :class:`LSTM`, :class:`GRU`,
        :class:`RNN`, :class:`sLSTM` and :class:`mLSTM`.
    tokenizer, training, arrays
        As in :class:`Checkpoint`. ``training`` contains JSON values, and no name in ``arrays``
        begins with "model.".
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        Dtype to which the parameters are rounded; not rounded if omitted.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from numpy_xlstm import LSTM, LanguageModel
    >>> model = LanguageModel(10, 4, LSTM(4, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/model.safetensors", model, training={"step": 3})
    ...     loaded = load_checkpoint(f"{folder}/model.safetensors")
    >>> loaded.training, sorted(loaded.model.params) == sorted(model.params)
    ({'step': 3}, True)
    """
    if tokenizer is not None:
        check_has("tokenizer", tokenizer, "to_dict")
    training = {} if training is None else training
    arrays = {} if arrays is None else arrays
    check_kind("training", training, Mapping)
    check_kind("arrays", arrays, Mapping)
    if mine := [name for name in map(str, arrays) if name.startswith(PREFIX)]:
        raise CheckpointError(f"arrays: expected names without prefix {PREFIX!r}; got {mine[0]!r}")
    kind = type(model).__name__
    metadata = {
        "format": FORMAT,
        "kind": kind,
        "config": kind_of(kind).describe(model),
        "dtype": stored_dtype(model, dtype),
        "tokenizer": None if tokenizer is None else tokenizer.to_dict(),
        "training": dict(training),
    }
    tokens = getattr(model, "special_tokens", SpecialTokens())
    if tokens != SpecialTokens():
        metadata["special_tokens"] = list(tokens)
    CheckpointMetadata.read("", json.loads(as_json(metadata)))
    parameters = {PREFIX + name: array for name, array in model.params.items()}
    dtypes = stored_dtypes(parameters, dtype)
    write_arrays(path, parameters | dict(arrays), metadata, dtypes)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a checkpoint that :func:`save_checkpoint` has written, bit for bit.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Checkpoint
        Model, tokenizer, training values and other arrays.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from numpy_xlstm import GRU, load_checkpoint, save_checkpoint
    >>> gru = GRU(3, 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/gru.safetensors", gru, training={"step": 3})
    ...     loaded = load_checkpoint(f"{folder}/gru.safetensors")
    >>> loaded.training, np.array_equal(loaded.model.params["bias_hh_l0"], gru.params["bias_hh_l0"])
    ({'step': 3}, True)
    """
    path = checked_path("path", path)
    tensors = open_tensors(path)
    check_memory(path.name, sum(array.nbytes for array in tensors.arrays.values()))
    opened = open_checkpoint(Content(path, tensors))
    arrays = {name: stored.read() for name, stored in opened.extra.items()}
    training = dict(opened.training or {})
    return Checkpoint(opened.load(mapped=False), opened.load_tokenizer(), training, arrays)


def open_checkpoint(content: Content) -> Pretrained:
    """Open a checkpoint of this package, or raise the errors of :func:`load_checkpoint`."""
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
    lambda model, path, options: save_checkpoint(
        path, model, tokenizer=options.tokenizer, dtype=options.dtype
    ),
    ".safetensors",
)
"""Checkpoints of this package: the model, and everything that :func:`save_checkpoint` stores."""
