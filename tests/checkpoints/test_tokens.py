"""Special tokens and the tokenizer in the folder of a model."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from numpy_xlstm import (
    LSTM,
    ByteTokenizer,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    SpecialTokens,
    from_pretrained,
    open_pretrained,
    save_pretrained,
)
from numpy_xlstm.errors import CheckpointError, OptionError
from tests.checkpoints.build import large, paper

GIVEN = SpecialTokens(bos=1, eos=(2,), pad=3, insert_bos=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = large()
    model.special_tokens = GIVEN
    save_pretrained(model, tmp_path / "model", format="transformers")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, GIVEN),
        ({"eos_token_id": None, "do_sample": True, "top_p": 0.9}, GIVEN),
        ({"eos_token_id": 4}, GIVEN._replace(eos=(4,))),
        ({"eos_token_id": [4, 0], "bos_token_id": 0}, GIVEN._replace(bos=0, eos=(4, 0))),
        ({"pad_token_id": 0}, GIVEN._replace(pad=0)),
    ],
)
def test_the_configuration_of_generation_comes_first(
    said: dict[str, Any], expected: SpecialTokens, folder: Path
) -> None:
    (folder / "generation_config.json").write_text(json.dumps(said))
    assert open_pretrained(folder).special_tokens == expected
    assert open_pretrained(folder).model.special_tokens == expected
    assert from_pretrained(folder).special_tokens == expected


@pytest.mark.parametrize("text", ["{", "[2]", '{"eos_token_id": [2, -1]}'])
def test_a_configuration_of_generation_that_is_none(text: str, folder: Path) -> None:
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"^generation_config\.json: .*expected"):
        from_pretrained(folder)


def test_whether_a_text_begins_with_the_bos(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("force_bos_token_insert") is True
    save_pretrained(from_pretrained(folder), tmp_path / "b.safetensors")
    assert from_pretrained(tmp_path / "b.safetensors").special_tokens == GIVEN
    for more in ({}, {"force_bos_token_insert": False}, {"force_bos_token_insert": None}):
        (folder / "config.json").write_text(json.dumps(config | more))
        assert from_pretrained(folder).special_tokens == GIVEN._replace(insert_bos=False)
    save_pretrained(from_pretrained(folder), tmp_path / "c", format="transformers")
    assert "force_bos" not in (tmp_path / "c" / "config.json").read_text()


def test_tokenizers_travel(folder: Path, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("yaml")
    made = tokenizers.Tokenizer(tokenizers.models.BPE({"é": 0, "b": 1}, []))
    tokenizer = HuggingFaceTokenizer(made.to_str())
    assert open_pretrained(folder).load_tokenizer() is None
    (folder / "tokenizer.json").write_text(made.to_str(), "utf-8")
    assert open_pretrained(folder).load_tokenizer() == tokenizer
    assert open_pretrained(folder / "model.safetensors").load_tokenizer() == tokenizer
    save_pretrained(paper(), tmp_path / "b", format="xlstm", tokenizer=tokenizer)
    assert open_pretrained(tmp_path / "b").load_tokenizer() == tokenizer
    save_pretrained(paper(), tmp_path / "b" / "c.safetensors", tokenizer=ByteTokenizer())
    assert open_pretrained(tmp_path / "b" / "c.safetensors").load_tokenizer() == ByteTokenizer()
    save_pretrained(paper(), tmp_path / "b" / "d.safetensors")
    assert open_pretrained(tmp_path / "b" / "d.safetensors").load_tokenizer() is None
    (folder / "tokenizer.json").write_text("no")
    with pytest.raises(OptionError, match=r"tokenizer: expected the content of a tokenizer\.json"):
        open_pretrained(folder).load_tokenizer()


@pytest.mark.parametrize(
    ("tokenizer", "text"),
    [
        (ByteTokenizer(), "né €\n\0 end"),
        (CharacterTokenizer.of("né €\n'. s"), "n é\n\n's  €. sss"),
        (CharacterTokenizer.of("ab\ufffd"), "a\ufffdb"),
    ],
)
def test_characters_and_bytes_become_a_tokenizer_json(
    tokenizer: ByteTokenizer | CharacterTokenizer, text: str, tmp_path: Path
) -> None:
    pytest.importorskip("tokenizers")
    save_pretrained(large(), tmp_path / "a", tokenizer=tokenizer)
    loaded, ids = open_pretrained(tmp_path / "a").load_tokenizer(), tokenizer.encode(text)
    assert isinstance(loaded, HuggingFaceTokenizer)
    assert loaded.encode(text).tolist() == ids.tolist()
    assert loaded.decode(ids) == tokenizer.decode(ids) == text
    unknown = tokenizer.encode("nü")  # without a token in two of the tokenizers
    assert loaded.encode("nü").tolist() == unknown.tolist()
    assert loaded.decode(unknown) == tokenizer.decode(unknown)
    transformers = pytest.importorskip("transformers")
    for kind in (transformers.PreTrainedTokenizerFast, transformers.AutoTokenizer):
        theirs = kind.from_pretrained(tmp_path / "a")
        assert theirs(text)["input_ids"] == ids.tolist()
        assert theirs.decode(ids) == text


def test_a_tokenizer_that_has_no_place(tmp_path: Path) -> None:
    other: Any = SimpleNamespace(encode=str, decode=str)
    with pytest.raises(OptionError, match=r"tokenizer: expected a Byte.*; got Simple"):
        save_pretrained(large(), tmp_path / "a", tokenizer=other)
    layer, path = LSTM(2, 3), tmp_path / "a.safetensors"
    with pytest.raises(OptionError, match="expected None for the format 'torch'; got Byte"):
        save_pretrained(layer, path, format="torch", tokenizer=ByteTokenizer())
    with pytest.raises(OptionError, match="path: expected one in an existing folder; got"):
        save_pretrained(large(), tmp_path / "no" / "a")
    assert [*tmp_path.iterdir()] == []
