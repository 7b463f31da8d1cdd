"""The work for a token does not grow with the number of tokens before it. Work is counted."""

import json
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.generation import HuggingFaceTokenizer, StreamDecoder
from tests.reliability import test_tokenizers as tokenizers

TEXT = "the cat né 日本 a€😀 theca " * 40


def whole(tokenizer: HuggingFaceTokenizer, ids: list[int]) -> str:
    return tokenizer.decode(np.array(ids, np.int64))


@pytest.mark.parametrize("kind", tokenizers.HONEST)
def test_a_stream_decodes_a_few_ids_a_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = HuggingFaceTokenizer(json.dumps(tokenizers.HONEST[kind]()))
    ids = [int(k) for k in tokenizer.encode(TEXT)]
    expected, decoded = whole(tokenizer, ids), []
    plain = HuggingFaceTokenizer.decode

    def counted(self: HuggingFaceTokenizer, ids: Any) -> str:
        decoded.append(len(ids))
        return plain(self, ids)

    monkeypatch.setattr(HuggingFaceTokenizer, "decode", counted)
    decoder = StreamDecoder(tokenizer)
    parts = [decoder.push(k) for k in ids]
    assert "".join(parts) + decoder.flush() == expected
    assert sum(map(bool, parts)) > len(ids) / 4  # at once, not at the end
    assert sum(decoded) <= 40 * len(ids)
    assert max(decoded, default=0) <= 40
