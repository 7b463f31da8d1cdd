"""``numpy-xlstm eval`` gives the numbers of the training, for every kind of checkpoint."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import ByteTokenizer, CharacterTokenizer, from_pretrained, save_pretrained
from numpy_xlstm.cli import main
from numpy_xlstm.training import default_text, evaluate, split_text
from tests.models.build import lm_config, make

pytest.importorskip("rich", reason="rich (the extra 'cli') is not installed")

TEXT = default_text()[:9_000]
SMALL = ["--hidden-size=8", "--embedding-size=4", "--batch-size=4", "--window=16", "--steps=5"]
SMALL += ["--sample-length=0", "--validate-every=2", "--lr=0.1", "--out=run"]


def results(*words: str) -> dict[str, Any]:
    assert main(["eval", *words, "--json", "results.json"]) == 0
    loaded: dict[str, Any] = json.loads(Path("results.json").read_text("utf-8"))
    return loaded


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "bpe:300"])
@pytest.mark.parametrize("own", [False, True])
def test_the_bits_are_those_of_the_training(
    own: bool, tokenizer: str, text_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = default_text()[30_000:32_000] if own else split_text(TEXT, 16).validation
    Path("held out.txt").write_text(held_out, "utf-8")
    words = ["--validation", "held out.txt"] if own else []
    assert main(["train", text_file, *words, *SMALL, "--tokenizer", tokenizer]) == 0
    shown = capsys.readouterr().out
    lines = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    best = min(line["validation"] for line in lines if "validation" in line)
    found = results("run", "held out.txt")
    assert found["bits_per_character"] == best
    assert found["characters"] == len(held_out)
    out, err = capsys.readouterr()
    bits = re.search(r"^bits per character +([\d.]+)$", out, re.M)
    assert bits is not None
    assert f" {bits[1]} │ bits/char" in shown
    assert err == "" or tokenizer == "characters"
    last = results("run/checkpoint.safetensors", "held out.txt")
    assert last["bits_per_character"] == lines[-1]["validation"]


def test_two_texts_are_one(text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer, model = CharacterTokenizer.of(TEXT[:40]), make(lm_config(vocab_size=100))
    save_pretrained(model, "model.safetensors", tokenizer=tokenizer)
    Path("folder").mkdir()
    Path("folder/other.md").write_text("é <other>", "utf-8")
    found = results("model.safetensors", text_file, "folder", "--rows", "7", "--window", "20")
    expected = evaluate(model, tokenizer, TEXT + "é <other>", rows=7, window=20, carry=False)
    assert found == expected._asdict() | {"window": 20}
    assert found["perplexity"] == pytest.approx(2 ** found["bits_per_token"])
    out, err = capsys.readouterr()
    assert re.search(
        r"^empty state +at the start of each row and after every 20 tokens$", out, re.M
    )
    assert re.search(r"^perplexity .* per token, a mean over 9,002 tokens$", out, re.M)
    assert re.search(r"^rows +7, each of 1,286 tokens$", out, re.M)
    assert re.match(r"decoding does not restore the text, such as ('.' ){8}'.'; bits per", err)


@pytest.mark.parametrize("weights", ["widened", "stored"])
def test_matrices_in_16_bits(weights: str, text_file: str) -> None:
    pytest.importorskip("ml_dtypes")
    model = make(lm_config(vocab_size=256), dtype=np.float32)
    known: Any = {"dtype": "bfloat16", "tokenizer": ByteTokenizer()}
    save_pretrained(model, "model.safetensors", **known)
    found = results("model.safetensors", text_file, "--weights", weights)
    expected = evaluate(from_pretrained("model.safetensors"), ByteTokenizer(), TEXT)
    assert found["bits_per_token"] == pytest.approx(expected.bits_per_token, rel=1e-6)
