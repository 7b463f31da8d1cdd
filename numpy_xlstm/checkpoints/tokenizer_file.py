"""Tokenizers as a ``tokenizer.json``."""

import json
from typing import Any

from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation.components import BYTE_LEVEL
from numpy_xlstm.generation.tokenizers import (
    REPLACEMENT,
    ByteTokenizer,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    Tokenizer,
)


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
