"""Files of arrays, tokenizers and metadata, written atomically; folders for other packages."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints.description import Saving
from numpy_xlstm.checkpoints.safetensors import CODES, FLOATS, numpy_dtype, write_safetensors
from numpy_xlstm.checkpoints.tensors import HEADER_KEY, TOKENIZER, WHOLE, open_tensors, read_stored
from numpy_xlstm.disk import checked_path, new_folder, replacing, write_text
from numpy_xlstm.documents import as_text, parse_json
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation.components import BYTE_LEVEL
from numpy_xlstm.generation.tokenizers import (
    REPLACEMENT,
    ByteTokenizer,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    Tokenizer,
)
from numpy_xlstm.numerics import Array, check_parameter, checked_choice, is_narrow

MAX_NAME = 1000
"""Largest number of characters in the name of an array."""

FOR_PYTORCH = {"format": "pt"}
"""Metadata of a file with the arrays of a model of PyTorch."""


def write_arrays(
    path: str | Path, arrays: Mapping[str, Array], metadata: Mapping[str, Any]
) -> None:
    """Write arrays and metadata to a ``.safetensors`` file.

    The file is replaced atomically. At any time, even if the process ends, it has either the
    complete old or the complete new content.

    Parameters
    ----------
    path : str or Path
        ``*.safetensors``.
    arrays : Mapping[str, np.ndarray]
        Names and arrays of booleans, integers or floats.
    metadata : Mapping[str, Any]
        JSON values: strings, finite numbers, booleans, None, and lists and dicts of these. NumPy
        numbers and arrays are written as numbers and lists.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_arrays(f"{folder}/a.safetensors", {"x": np.arange(3)}, {"step": 7})
    ...     read_arrays(f"{folder}/a.safetensors")
    ({'x': array([0, 1, 2])}, {'step': 7})
    """
    path = checked_path("path", path)
    if path.suffix != ".safetensors":
        raise OptionError(f"path: expected a name that ends in .safetensors; got {path.name}")
    write_file(path, arrays, dtypes_of(arrays), {HEADER_KEY: as_json(metadata)})


def write_file(
    path: Path, arrays: Mapping[str, Array], dtypes: Mapping[str, str], metadata: Mapping[str, str]
) -> None:
    """Write a file atomically, with each array rounded to its dtype."""
    with replacing(path) as file:
        write_safetensors(file, arrays, dtypes, metadata)


def read_arrays(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the arrays and the metadata that :func:`write_arrays` has written.

    Parameters
    ----------
    path : str or Path
        The file.
    """
    path = checked_path("path", path)
    stored, texts = open_tensors(path)
    metadata = own_metadata(path, texts)
    return read_stored(path.name, stored), metadata


def own_metadata(path: Path, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata of this package in a file, or raise :class:`CheckpointError`."""
    text = texts.get(HEADER_KEY, "none")
    with suppress(ValueError):
        metadata = parse_json(text.encode("utf-8"))
        if isinstance(metadata, dict):
            return metadata
    raise CheckpointError(f"{path.name}: expected the metadata of a checkpoint; got {text:.40}")


def dtypes_of(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the dtypes, or raise :class:`CheckpointError` for other arrays."""
    if not isinstance(arrays, Mapping) or not all(isinstance(name, str) for name in arrays):
        raise CheckpointError(f"arrays: expected a mapping of arrays; got {arrays!r:.80}")
    dtypes = {}
    for name, array in arrays.items():
        if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name == "__metadata__":
            raise CheckpointError(
                f"arrays: expected names of 1 to {MAX_NAME} printable characters, other than "
                f"__metadata__; got {name!r:.80}"
            )
        dtypes[name] = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
        if dtypes[name] not in CODES:
            expected = "an array of booleans, integers or floats of at most 64 bits"
            raise CheckpointError(f"{name}: expected {expected}; got {dtypes[name]}")
    return dtypes


def as_json(metadata: Mapping[str, Any]) -> str:
    """Return the metadata as JSON, or raise an error if the JSON could not be loaded."""
    try:
        text = json.dumps(dict(metadata), default=_plain, allow_nan=False)
        parse_json(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"metadata: expected JSON values; got others ({error})") from error
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__}: {value!r}")


def stored_dtypes(arrays: Mapping[str, Array], dtype: str | None) -> dict[str, str]:
    """Return the dtype in which each array is stored: the given one, or its own.

    If matrices have one dtype of 16 bits, other arrays that it represents exactly get it too, as in
    the file that they come from. Unknown dtypes and non-finite arrays are refused.
    """
    for name, array in arrays.items():
        check_parameter(name, array, array)
    dtypes = {n: checked_choice("dtype", array.dtype.name, FLOATS) for n, array in arrays.items()}
    if dtype is not None:
        numpy_dtype(dtype)  # raise the error of a missing package before a file is made
        return dict.fromkeys(arrays, dtype)
    narrow = {array.dtype for array in arrays.values() if is_narrow(array)}
    if len(narrow) == 1:
        (common,) = narrow
        for name, array in arrays.items():
            with np.errstate(over="ignore"):
                if (array.astype(common) == array).all():
                    dtypes[name] = common.name
    return dtypes


def write_folder(
    path: Path, config: str, values: Mapping[str, Any], arrays: Mapping[str, Array], options: Saving
) -> None:
    """Write a new folder: a configuration, arrays, and the tokenizer if there is one.

    ``config`` is the name of the configuration, which ends in ``.json`` or ``.yaml``.
    """
    dtypes, text = stored_dtypes(arrays, options.dtype), as_text(Path(config), values)
    tokenizer = None if options.tokenizer is None else as_library_json(options.tokenizer)
    with new_folder(path) as partial:
        if tokenizer is not None:
            write_text(partial / TOKENIZER, tokenizer)
            # transformers replaces no part of the tokenizer.json, and removes no spaces
            kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
            settings = json.dumps(kind | {"clean_up_tokenization_spaces": False})
            write_text(partial / "tokenizer_config.json", settings)
        write_text(partial / config, text)
        write_file(partial / WHOLE, arrays, dtypes, FOR_PYTORCH)


def as_library_json(tokenizer: Tokenizer) -> str:
    """Return a tokenizer as a ``tokenizer.json``, for the package ``tokenizers``.

    Examples
    --------
    >>> json.loads(as_library_json(CharacterTokenizer("ab")))["model"]["vocab"]
    {'a': 0, 'b': 1, '<unk>': 2}
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return tokenizer.json
    splitter: Any = None
    unknown: str | None = None
    joiner: Any = {"type": "Fuse"}
    if isinstance(tokenizer, CharacterTokenizer):  # words without merges are characters
        vocab = {symbol: n for n, symbol in enumerate(tokenizer.symbols)}
        unknown = "<unk>"  # no symbol, which is one character
        vocab[unknown] = tokenizer.unknown
        replaced = {"type": "Replace", "pattern": {"String": unknown}, "content": REPLACEMENT}
        joiner = {"type": "Sequence", "decoders": [replaced, joiner]}
    elif isinstance(tokenizer, ByteTokenizer):
        splitter = joiner = {"type": "ByteLevel"} | dict.fromkeys(BYTE_LEVEL, False)
        # ByteLevel writes a printable byte as itself, and the others as the characters from 256 on
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = sorted({*range(256)} - {*printable})
        vocab = {chr(byte): byte for byte in printable}
        vocab |= {chr(256 + n): byte for n, byte in enumerate(others)}
    else:
        expected = "a ByteTokenizer, CharacterTokenizer or HuggingFaceTokenizer"
        raise OptionError(f"tokenizer: expected {expected}; got {type(tokenizer).__name__}")
    model = {"type": "BPE", "vocab": vocab, "merges": list[str](), "unk_token": unknown}
    none = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor"))
    content = {"version": "1.0", **none, "added_tokens": [], "pre_tokenizer": splitter}
    return json.dumps(content | {"decoder": joiner, "model": model}, ensure_ascii=False)
