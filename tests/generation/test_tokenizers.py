import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.errors import MissingExtraError, OptionError, TextError
from numpy_xlstm.generation import (
    ByteTokenizer,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    StreamDecoder,
    Tokenizer,
    TokenizerDescription,
)

TEXT = st.text()
TRAINED_ON = "the cat and the hat, née €uro 日本"


@pytest.fixture(scope="module")
def huggingface() -> HuggingFaceTokenizer:
    """A small byte-level BPE that cuts characters, with a template, truncation and padding."""
    library = pytest.importorskip("tokenizers")
    built = library.Tokenizer(library.models.BPE())
    built.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=270,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>"],
        show_progress=False,
    )
    built.train_from_iterator([TRAINED_ON], trainer)
    built.post_processor = library.processors.TemplateProcessing("<s> $A", None, [("<s>", 0)])
    built.enable_truncation(4)
    built.enable_padding(length=9)
    return HuggingFaceTokenizer(built.to_str())


@given(TEXT)
def test_bytes_are_those_of_utf8(text: str) -> None:
    ids = ByteTokenizer().encode(text)
    assert ids.tolist() == list(text.encode())
    assert ids.dtype.kind == "i"
    assert ByteTokenizer().decode(ids) == text


@given(st.text(min_size=1))
def test_characters_are_positions_among_the_sorted_symbols(text: str) -> None:
    tokenizer = CharacterTokenizer.of(text)
    ids = tokenizer.encode(text)
    assert tokenizer.size == len(set(text)) + 1
    assert [sorted(set(text))[i] for i in ids] == list(text)
    assert tokenizer.decode(ids) == text


@given(TEXT, TEXT)
def test_other_characters_are_unknown(known: str, text: str) -> None:
    tokenizer = CharacterTokenizer.of(known)
    ids = tokenizer.encode(text)
    assert [k == tokenizer.unknown for k in ids] == [c not in known for c in text]
    expected = "".join(c if c in known else "\ufffd" for c in text)
    assert tokenizer.decode(ids) == expected


def test_half_of_a_surrogate_pair_is_no_utf8(huggingface: HuggingFaceTokenizer) -> None:
    for tokenizer in (ByteTokenizer(), huggingface):
        with pytest.raises(TextError, match=r"text: .*UTF-8 can express; got '\\udcff' at 1"):
            tokenizer.encode("a\udcff")
    assert CharacterTokenizer.of("a\udcff").encode("\udcffa").tolist() == [1, 0]


@pytest.mark.parametrize(
    "tokenizer", [ByteTokenizer(), CharacterTokenizer.of("né 日\ud800"), CharacterTokenizer("")]
)
def test_a_dict_that_went_through_json_gives_the_same_tokenizer(tokenizer: Tokenizer) -> None:
    assert (
        TokenizerDescription.from_dict(json.loads(json.dumps(tokenizer.to_dict()))).tokenizer()
        == tokenizer
    )


def test_a_hugging_face_tokenizer_keeps_the_whole_text(huggingface: HuggingFaceTokenizer) -> None:
    ids = huggingface.encode(TRAINED_ON)
    assert huggingface.decode(ids) == TRAINED_ON
    assert 9 < len(ids) < len(TRAINED_ON.encode())
    assert ids.max() < huggingface.size == 270
    assert huggingface.encode("").shape == (0,)


@pytest.fixture(scope="module")
def learnt() -> HuggingFaceTokenizer:
    pytest.importorskip("tokenizers")
    return HuggingFaceTokenizer.learn(TRAINED_ON * 9, 280)


@given(TEXT)
def test_a_learnt_tokenizer_restores_every_text(learnt: HuggingFaceTokenizer, text: str) -> None:
    ids = learnt.encode(text)
    assert learnt.decode(ids) == text
    assert len(ids) <= len(text.encode())


def test_a_learnt_tokenizer_has_the_frequent_pairs(learnt: HuggingFaceTokenizer) -> None:
    assert learnt.size == 280
    assert [learnt.decode(ids) for ids in learnt.encode("the hat")[:, None]] == ["the", " hat"]
    assert HuggingFaceTokenizer.learn("abcdefgh", 300).size == 256  # no pair that occurs once
    assert HuggingFaceTokenizer.learn("", 257).size == 256


def test_learning_again_in_another_process_gives_the_same_tokenizer() -> None:
    pytest.importorskip("tokenizers")
    source = "from numpy_xlstm import HuggingFaceTokenizer as T; from numpy_xlstm import training;"
    source += "print(T.learn(training.default_text()[:100_000], 500).json)"
    processes = [
        subprocess.run([sys.executable, "-c", source], capture_output=True, env=environment)
        for environment in ({**os.environ, "RAYON_NUM_THREADS": n} for n in ("1", "2"))
    ]
    assert processes[0].stdout.strip()
    assert processes[0].stdout == processes[1].stdout


def test_special_tokens_are_encoded_where_they_stand_and_decoded_to_nothing(
    huggingface: HuggingFaceTokenizer,
) -> None:
    ids = huggingface.encode("<s>the hat")
    assert ids[0] == 0
    assert 0 not in ids[1:]
    assert huggingface.decode(ids) == "the hat"


def test_a_hugging_face_tokenizer_in_a_file_and_in_a_dict(
    huggingface: HuggingFaceTokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(huggingface.json, encoding="utf-8")
    read = HuggingFaceTokenizer.from_file(path)
    again = TokenizerDescription.from_dict(json.loads(json.dumps(read.to_dict()))).tokenizer()
    assert read == again == huggingface
    assert repr(read) == "HuggingFaceTokenizer()"
    assert again.encode("née").tolist() == huggingface.encode("née").tolist()


def test_files_of_no_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    with pytest.raises(
        FileNotFoundError, match=r"tokenizer: expected a file; .*json does not exist"
    ):
        HuggingFaceTokenizer.from_file(path)
    path.write_bytes(b"\xff")
    with pytest.raises(OptionError, match=r"tokenizer: expected UTF-8; .*json is not"):
        HuggingFaceTokenizer.from_file(path)
    path.write_text("{}")
    with pytest.raises(OptionError, match=r"tokenizer: expected the content of a tokenizer\.json"):
        HuggingFaceTokenizer.from_file(str(path))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'numpy-xlstm\[cli\]'"):
        TokenizerDescription.from_dict({"kind": "huggingface", "text": "{}"}).tokenizer()


def pieces(tokenizer: Tokenizer, ids: Any) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*(decoder.push(int(k)) for k in ids), decoder.flush()]


@given(st.binary())
def test_a_stream_of_any_bytes_is_the_whole(data: bytes) -> None:
    parts = pieces(ByteTokenizer(), data)
    assert "".join(parts) == data.decode("utf-8", "replace")


def test_a_stream_never_cuts_a_character() -> None:
    assert pieces(ByteTokenizer(), "aé€😀".encode()) == [
        *("a", "", "é", "", "", "€", "", "", "", "😀", "")
    ]
    assert pieces(ByteTokenizer(), b"\xe2\x82") == ["", "", "\ufffd"]
    assert pieces(ByteTokenizer(), b"\xe2a\x80") == ["", "\ufffda", "\ufffd", ""]


@given(st.text())
def test_a_stream_of_a_hugging_face_tokenizer_is_the_whole(
    huggingface: HuggingFaceTokenizer, text: str
) -> None:
    parts = pieces(huggingface, huggingface.encode(text))
    assert "".join(parts) == text


def test_a_stream_of_a_hugging_face_tokenizer_never_cuts_a_character(
    huggingface: HuggingFaceTokenizer,
) -> None:
    ids = huggingface.encode("hat Ω, \ufffd€")
    decoded = pieces(huggingface, ids)
    assert "".join(decoded) == "hat Ω, \ufffd€"
    assert [part for part in decoded if "\ufffd" in part] == ["\ufffd€"]  # that of the text
    assert pieces(huggingface, ids[:-1])[-1].endswith("\ufffd")
    assert len(ids) > len("hat Ω, \ufffd€") > sum(map(bool, decoded))
