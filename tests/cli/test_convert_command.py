import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    CharacterTokenizer,
    HuggingFaceTokenizer,
    SpecialTokens,
    from_pretrained,
    xLSTMLarge,
    xLSTMLargeConfig,
)
from numpy_xlstm.checkpoints import open_pretrained, save_pretrained
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


def test_round_all_formats_of_large(capsys: pytest.CaptureFixture[str]) -> None:
    model, here = large(), "0.safetensors"
    save_pretrained(model, here)
    formats = "transformers safetensors xlstm-large safetensors transformers safetensors"
    for n, kind in enumerate(formats.split(), 1):
        there = f"{n}.{kind}" if kind == "safetensors" else f"{n}"
        assert convert(here, there, "--to", kind) == 0
        here = there
        found = from_pretrained(here)
        assert_same(dict(found.params), dict(model.params))
        assert found.special_tokens == (TOKENS if n < 3 else SpecialTokens())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("layout", ["vanilla", "cuda"])
def test_the_layout_of_slstm(layout: str) -> None:
    model = paper()
    save_pretrained(model, "a.safetensors")
    assert convert("a.safetensors", "b", "--to", "xlstm", "--layout", layout) == 0
    assert f"backend: {layout}" in Path("b/config.yaml").read_text()
    assert convert("b", "c.safetensors", "--to", "safetensors") == 0
    assert_same(dict(from_pretrained("c.safetensors").params), dict(model.params))


def test_the_layout_of_what_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """With R of one backend and a configuration of the other, the layout of b is ambiguous."""
    model = paper()
    save_pretrained(model, "a", format="xlstm", layout="cuda")
    file = Path("a/config.yaml")
    file.write_text(file.read_text().replace("backend: cuda", "backend: vanilla"))
    err = error_of(capsys, "a", "b.safetensors", "--to", "safetensors")
    assert "expected the layout of the backend 'vanilla'" in err
    options = ["--to", "safetensors", "--from-layout"]
    assert convert("a", "b.safetensors", *options, "cuda") == 0
    assert_same(dict(from_pretrained("b.safetensors").params), dict(model.params))
    assert convert("a", "c.safetensors", *options, "vanilla") == 0
    other = from_pretrained("c.safetensors").params
    name = next(name for name in other if name.endswith("_bias_"))
    assert (other[name] != model.params[name]).any()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_dtypes(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = large(np.float64)
    save_pretrained(model, "a.safetensors")
    options = ["--to", "transformers", "--dtype", dtype]
    assert convert("a.safetensors", "b", *options) == 0
    option = f"inference_state_dtype={dtype!r}"
    assert (option in capsys.readouterr().out) == dtype.endswith("16")
    assert json.loads(Path("b/config.json").read_text())["dtype"] == dtype
    assert convert("b", "c", "--to", "transformers") == 0
    weights = "model.safetensors"
    assert Path("b", weights).read_bytes() == Path("c", weights).read_bytes()
    if dtype != "bfloat16":  # the numbers are those of float16
        assert_same(dict(from_pretrained("c", dtype="float64").params), dict(model.params))


def test_the_tokenizer_comes_along_where_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    content = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1}, [])).to_str()
    save_pretrained(large(), "a", tokenizer=HuggingFaceTokenizer(content))
    assert convert("a", "b.safetensors", "--to", "safetensors") == 0
    assert open_pretrained("b.safetensors").load_tokenizer() == HuggingFaceTokenizer(content)
    assert convert("b.safetensors", "c", "--to", "xlstm-large") == 0
    text = Path("c/tokenizer.json").read_text("utf-8")
    assert text == Path("a/tokenizer.json").read_text("utf-8") == content
    assert capsys.readouterr().err == ""
    save_pretrained(large(), "d.safetensors", tokenizer=CharacterTokenizer("ab"))
    assert convert("d.safetensors", "e", "--to", "transformers") == 0
    assert capsys.readouterr() == ("", "")
    assert HuggingFaceTokenizer.from_file("e/tokenizer.json").decode(np.array([1, 0])) == "ba"
    assert convert("d.safetensors", "f.safetensors", "--to", "safetensors") == 0
    assert open_pretrained("f.safetensors").load_tokenizer() == CharacterTokenizer("ab")


def test_damage_within_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    save_pretrained(large(), "b", format="transformers")
    file = Path("b/model.safetensors")
    header, data = read_safetensors(file)
    write_safetensors(file, header, data[:-4] + np.float32(np.nan).tobytes())
    err = error_of(capsys, "b", "c", "--to", "xlstm-large")
    assert err.startswith("model.safetensors: ")
    assert "expected finite numbers; got nan" in err
    assert [*Path().iterdir()] == [Path("b")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("big", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_for_large_files_on_a_terminal(
    terminal: bool, big: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "LARGE", 1 if big else 10**9)
    monkeypatch.setenv("TERM", "xterm")
    stderr = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    save_pretrained(large(), "a.safetensors")
    assert convert("a.safetensors", "b", "--to", "transformers") == 0
    shown = stderr.getvalue()
    assert ("kB" in shown) == (terminal and big)
    assert terminal or not shown
