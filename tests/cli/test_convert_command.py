import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    LSTM,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    LanguageModel,
    SpecialTokens,
    from_pretrained,
    xLSTMLarge,
    xLSTMLargeConfig,
)
from numpy_xlstm.checkpoints import Pretrained, load_checkpoint, save_checkpoint, save_pretrained
from numpy_xlstm.cli import display, main
from tests.checkpoints.build import read_safetensors, write_safetensors
from tests.cli.shared import error
from tests.models.build import assert_same, lm_config, make

pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")

TOKENS = SpecialTokens(1, (2, 5), 0, insert_bos=True)


def large(dtype: Any = np.float32) -> xLSTMLarge:
    config = xLSTMLargeConfig(16, num_heads=2, num_blocks=2, vocab_size=9)
    model = xLSTMLarge(config, dtype=dtype, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for array in model.params.values():
        array[...] = rng.standard_normal(array.shape).astype(np.float16)
    model.special_tokens = TOKENS
    return model


def paper() -> Any:
    model: Any = make(lm_config(), dtype=np.float32)
    return model


def convert(*argv: Any) -> int:
    return main(["convert", *map(str, argv)])


def error_of(capsys: pytest.CaptureFixture[str], *argv: Any) -> str:
    assert convert(*argv) == 2
    return error(capsys)


def test_round_all_formats_of_large(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, here = large(), tmp_path / "0.safetensors"
    save_checkpoint(here, model)
    formats = [
        "transformers",
        "safetensors",
        "xlstm-large",
        "safetensors",
        "transformers",
        "safetensors",
    ]
    for n, kind in enumerate(formats, 1):
        there = tmp_path / (f"{n}.{kind}" if kind == "safetensors" else f"{n}")
        assert convert(here, there, "--to", kind) == 0
        here = there
        found = from_pretrained(here)
        assert_same(dict(found.params), dict(model.params))
        assert found.special_tokens == (TOKENS if n < 3 else SpecialTokens())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("layout", ["vanilla", "cuda"])
def test_the_layout_of_slstm(layout: str, tmp_path: Path) -> None:
    model = paper()
    save_pretrained(model, tmp_path / "a.safetensors")
    assert (
        convert(tmp_path / "a.safetensors", tmp_path / "b", "--to", "xlstm", "--layout", layout)
        == 0
    )
    assert f"backend: {layout}" in (tmp_path / "b" / "config.yaml").read_text()
    assert convert(tmp_path / "b", tmp_path / "c.safetensors", "--to", "safetensors") == 0
    assert_same(dict(from_pretrained(tmp_path / "c.safetensors").params), dict(model.params))


def test_the_layout_of_what_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With R of one backend and a configuration of the other, the layout of b is ambiguous."""
    model = paper()
    save_pretrained(model, tmp_path / "a", format="xlstm", layout="cuda")
    file = tmp_path / "a" / "config.yaml"
    file.write_text(file.read_text().replace("backend: cuda", "backend: vanilla"))
    err = error_of(capsys, tmp_path / "a", tmp_path / "b.safetensors", "--to", "safetensors")
    assert "expected the layout of the backend 'vanilla'" in err
    options = ["--to", "safetensors", "--from-layout"]
    assert convert(tmp_path / "a", tmp_path / "b.safetensors", *options, "cuda") == 0
    assert_same(dict(from_pretrained(tmp_path / "b.safetensors").params), dict(model.params))
    assert convert(tmp_path / "a", tmp_path / "c.safetensors", *options, "vanilla") == 0
    other = from_pretrained(tmp_path / "c.safetensors").params
    name = next(name for name in other if name.endswith("_bias_"))
    assert (other[name] != model.params[name]).any()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_dtypes(dtype: str, tmp_path: Path) -> None:
    model = large(np.float64)
    save_pretrained(model, tmp_path / "a.safetensors")
    options = ["--to", "transformers", "--dtype", dtype]
    assert convert(tmp_path / "a.safetensors", tmp_path / "b", *options) == 0
    assert json.loads((tmp_path / "b" / "config.json").read_text())["dtype"] == dtype
    assert convert(tmp_path / "b", tmp_path / "c", "--to", "transformers") == 0
    weights = "model.safetensors"
    assert (tmp_path / "b" / weights).read_bytes() == (tmp_path / "c" / weights).read_bytes()
    if dtype != "bfloat16":  # the numbers are those of float16
        assert_same(
            dict(from_pretrained(tmp_path / "c", dtype="float64").params), dict(model.params)
        )


def test_shards(tmp_path: Path) -> None:
    save_pretrained(large(), tmp_path / "a.safetensors")
    options = ["--to", "transformers", "--max-shard-size", "9KB"]
    assert convert(tmp_path / "a.safetensors", tmp_path / "b", *options) == 0
    assert len([*(tmp_path / "b").glob("model-*.safetensors")]) > 2
    assert_same(dict(from_pretrained(tmp_path / "b").params), dict(large().params))


def test_the_tokenizer_comes_along_where_it_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1}, []))
    save_pretrained(large(), tmp_path / "a", tokenizer=HuggingFaceTokenizer(made.to_str()))
    assert convert(tmp_path / "a", tmp_path / "b.safetensors", "--to", "safetensors") == 0
    assert load_checkpoint(tmp_path / "b.safetensors").tokenizer == HuggingFaceTokenizer(
        made.to_str()
    )
    assert convert(tmp_path / "b.safetensors", tmp_path / "c", "--to", "xlstm-large") == 0
    text = (tmp_path / "c" / "tokenizer.json").read_text("utf-8")
    assert text == (tmp_path / "a" / "tokenizer.json").read_text("utf-8") == made.to_str()
    assert capsys.readouterr().err == ""
    save_checkpoint(tmp_path / "d.safetensors", large(), tokenizer=CharacterTokenizer("ab"))
    assert convert(tmp_path / "d.safetensors", tmp_path / "e", "--to", "transformers") == 0
    left = "transformers does not support the CharacterTokenizer, which is omitted\n"
    assert capsys.readouterr() == ("", left)
    assert not (tmp_path / "e" / "tokenizer.json").exists()
    assert (
        convert(tmp_path / "d.safetensors", tmp_path / "f.safetensors", "--to", "safetensors") == 0
    )
    assert load_checkpoint(tmp_path / "f.safetensors").tokenizer == CharacterTokenizer("ab")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    save_pretrained(large(), tmp_path / "in" / "a.safetensors")
    save_checkpoint(tmp_path / "in" / "lstm.safetensors", LanguageModel(9, 4, LSTM(4, 8)))
    (tmp_path / "in" / "full").mkdir()
    (tmp_path / "in" / "full" / "note").write_text("mine")
    (tmp_path / "in" / "bad.safetensors").write_bytes(
        (tmp_path / "in" / "a.safetensors").read_bytes()[:900]
    )
    (tmp_path / "in" / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    return tmp_path / "in"


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("nope b --to safetensors", "checkpoint: expected a file or folder; .*nope does not exist"),
        (
            "bad.safetensors b --to transformers",
            "bad.safetensors: expected an intact .safetensors file; got one that",
        ),
        ("lfs.safetensors b --to safetensors", "lfs.safetensors: .*got a pointer of Git LFS"),
        ("a.safetensors b --to gguf", "argument --to: invalid choice: 'gguf'"),
        ("a.safetensors b --to onnx", "path: expected a name that ends in .onnx; got b"),
        ("a.safetensors --to safetensors", "the following arguments are required: OUT"),
        (
            "a.safetensors b --to safetensors",
            "path: expected a name that ends in .safetensors; got b",
        ),
        (
            "a.safetensors a.safetensors --to safetensors",
            "OUT: expected a new path; .*a.safetensors exists",
        ),
        (
            "a.safetensors bad.safetensors --to safetensors",
            "OUT: expected a new path; .*bad.safetensors exists",
        ),
        (
            "a.safetensors full --to transformers",
            "path: expected a new path or an empty folder; .*full ex",
        ),
        (
            "a.safetensors lstm.safetensors --to xlstm-large",
            "path: expected a new path or an empty folder",
        ),
        ("a.safetensors x/y --to transformers", "path: expected one in an existing folder; got"),
        (
            "a.safetensors x/y.safetensors --to safetensors",
            "path: expected one in an existing folder; got",
        ),
        ("a.safetensors b --to xlstm", "model: expected one of xLSTMBlockStack, xLSTMLMModel for"),
        (
            "lstm.safetensors b --to transformers",
            "model: expected one of xLSTMLarge for the format",
        ),
        (
            "a.safetensors b --to transformers --dtype int8",
            "argument --dtype: invalid choice: 'int8'",
        ),
        (
            "a.safetensors b --to transformers --layout cuda",
            "--layout: expected --to xlstm with it; got",
        ),
        (
            "a.safetensors b --to transformers --max-shard-size big",
            "--max-shard-size: expected bytes",
        ),
    ],
)
def test_bad_input(
    argv: str, message: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(source)
    words = argv.split()
    count = next((n for n, word in enumerate(words) if word[:2] == "--"), len(words))
    places = [str(source / word) for word in words[:count]] + words[count:]
    err = error_of(capsys, *places)
    assert re.search(f"^{message}", err), err
    assert content(source) == before


def test_what_shows_at_once_is_said_before_the_model_is_read(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pretrained, "load", None)
    for rest, message in (
        ("full --to transformers", "path: expected a new path or an empty folder"),
        ("b --to safetensors", "path: expected a name that ends in .safetensors"),
        ("b --to xlstm", "model: expected one of xLSTM"),
    ):
        target, *options = rest.split()
        assert error_of(capsys, source / "a.safetensors", source / target, *options).startswith(
            message
        )


def test_damage_within_leaves_nothing(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = large()
    save_pretrained(model, source / "b", format="transformers")
    file = source / "b" / "model.safetensors"
    header, data = read_safetensors(file)
    write_safetensors(file, header, data[:-4] + np.float32(np.nan).tobytes())
    before = content(source)
    err = error_of(capsys, source / "b", source / "c", "--to", "xlstm-large")
    assert err.startswith("model.safetensors: ")
    assert "expected finite numbers; got nan" in err
    assert content(source) == before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("big", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_for_large_files_on_a_terminal(
    terminal: bool, big: bool, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "LARGE", 1 if big else 10**9)
    monkeypatch.setenv("TERM", "xterm")
    stderr = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert convert(source / "a.safetensors", source / "b", "--to", "transformers") == 0
    shown = stderr.getvalue()
    assert ("reading" in shown) == ("writing" in shown) == (terminal and big)
    assert terminal or not shown
