"""Writing of folders for other packages: a configuration, arrays, and the tokenizer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints.description import Saving
from numpy_xlstm.checkpoints.files import write_file
from numpy_xlstm.checkpoints.safetensors import FLOATS, numpy_dtype
from numpy_xlstm.checkpoints.tensors import TOKENIZER, WHOLE
from numpy_xlstm.disk import new_folder, write_text
from numpy_xlstm.documents import as_text
from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation.components import BYTE_LEVEL
from numpy_xlstm.generation.tokenizers import (
    REPLACEMENT,
    ByteTokenizer,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    Tokenizer,
)
from numpy_xlstm.numerics import Array, check_choice, check_parameter, is_narrow

AS_IT_IS = '{"tokenizer_class": "PreTrainedTokenizerFast"}'
"""Configuration with which transformers does not replace parts of a ``tokenizer.json``."""

FOR_PYTORCH = {"format": "pt"}
"""Metadata of a file with the arrays of a model of PyTorch."""


def stored_dtypes(arrays: Mapping[str, Array], dtype: str | None) -> dict[str, str]:
    """Return the dtype in which each array is stored: the given one, or its own.

    If matrices have one dtype of 16 bits, other arrays that it represents exactly get it too, as in
    the file that they come from. Unknown dtypes and non-finite arrays are refused.
    """
    for name, array in arrays.items():
        check_parameter(name, array, array)
    dtypes = {n: check_choice("dtype", array.dtype.name, FLOATS) for n, array in arrays.items()}
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
            write_text(partial / "tokenizer_config.json", AS_IT_IS)
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
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # others: from 256
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
