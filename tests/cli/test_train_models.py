import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from numpy_xlstm.checkpoints import from_pretrained, open_pretrained
from numpy_xlstm.cli import main
from numpy_xlstm.generation import ByteTokenizer, HuggingFaceTokenizer
from numpy_xlstm.models import (
    mLSTMBlockConfig,
    sLSTMBlockConfig,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.training import default_text, split_text, validation_bits
from numpy_xlstm.training.run import Run
from tests.cli.shared import error

TEXT = default_text()[:6000].replace("'", "’")
COMMON = ["--batch-size=2", "--window=16", "--sample-length=9", "--steps=3"]
MODELS = {
    "xlstm": ["--model=xlstm", "--blocks=2", "--width=8"],
    "xlstm-large": ["--model=xlstm-large", "--blocks=2", "--width=8"],
}


def train(text_file: str, *options: str) -> int:
    return main(["train", text_file, *COMMON, *options])


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (MODELS["xlstm"], ["mlstm", "slstm"]),
        ([*MODELS["xlstm"], "--blocks=1"], ["mlstm"]),
        ([*MODELS["xlstm"], "--slstm-at=all"], ["slstm", "slstm"]),
        ([*MODELS["xlstm"], "--dropout=0.5", "--recompute"], ["mlstm", "slstm"]),
        (MODELS["xlstm-large"], None),
        ([*MODELS["xlstm-large"], "--width=12", "--weight-mode=fused"], None),
    ],
)
def test_a_short_training(
    options: list[str], kinds: Any, text_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(text_file, *options, "--out=out") == 0
    out, err = capsys.readouterr()
    name, config = options[0].removeprefix("--model="), open_pretrained("out").model.config
    assert err.startswith(f"{name}, ")
    assert config.embedding_dim == (12 if "--width=12" in options else 8)
    assert kinds is None or list(config.kinds) == kinds
    assert re.search(rf"{name} model +│ +[3-8]\.\d{{3}} │ bits/char", out)
    assert re.search(r"\nsample:\n.(.|\n){9}\n$", out)


def optimizer(text_file: str, out: str, *options: str) -> Any:
    """Return the optimiser of a resumed training."""
    assert train(text_file, "--out", out, *options) == 0
    return Run.resume(out).state.optimizer


def test_the_recipe_of_each_model(text_file: str) -> None:
    cell = optimizer(text_file, "a", "--hidden-size=8")
    xlstm = optimizer(text_file, "b", *MODELS["xlstm"])
    large = optimizer(text_file, "c", *MODELS["xlstm-large"], "--lr=0.5")
    assert (cell.lr, cell.betas, cell.weight_decay) == (1e-2, (0.9, 0.999), 0.3)
    assert (xlstm.lr, xlstm.betas, xlstm.weight_decay) == (3e-3, (0.9, 0.95), 0.1)
    assert (large.lr, large.betas, large.eps) == (0.5, (0.9, 0.95), 1e-5)


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        (["--schedule=constant", "--warmup=0.5"], [0.25, 0.5, 0.5, 0.5]),
        (["--schedule=cosine", "--warmup=0.5"], [0.25, 0.5, 0.275, 0.05]),
    ],
)
def test_schedules(options: list[str], rates: list[float], text_file: str) -> None:
    small = ["--hidden-size=8", "--lr=0.5", "--steps=4", "--out", "out"]
    assert train(text_file, *small, *options) == 0
    log = Path("out/log.jsonl").read_text().splitlines()
    assert [round(json.loads(line)["lr"], 3) for line in log] == rates


def xlstm_config(**options: Any) -> xLSTMLMModelConfig:
    config = xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(),
        slstm_block=sLSTMBlockConfig(),
        num_blocks=2,
        embedding_dim=8,
        slstm_at=[0],
        tie_weights=True,
        vocab_size=1,
    )
    return config.from_dict(config.to_dict() | options)


LARGE = {"embedding_dim": 8, "num_heads": 2, "num_blocks": 1, "qk_dim_factor": 1.0}


def without_vocabulary(config: Any) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name != "vocab_size"}


@pytest.mark.parametrize("vocab_size", [None, -1, 200])
def test_a_configuration_in_json(vocab_size: int | None, text_file: str) -> None:
    values = without_vocabulary(xlstm_config())
    given = {} if vocab_size is None else {"vocab_size": vocab_size}
    Path("config.json").write_text(json.dumps(values | given))
    assert train(text_file, "--model=xlstm", "--config=config.json", "--out", "out") == 0
    model = from_pretrained("out/checkpoint.safetensors", xLSTMLMModel)
    size = 200 if vocab_size == 200 else len(set(TEXT[:5400])) + 1
    assert model.config == xlstm_config(vocab_size=size)
    assert main(["train", "--resume", "out", "--steps", "4"]) == 0


def test_a_configuration_in_yaml(text_file: str) -> None:
    pytest.importorskip("yaml")
    Path("config.yaml").write_text("".join(f"{k}: {v}\n" for k, v in LARGE.items()))
    options = ["--model=xlstm-large", "--tokenizer=bytes", "--config=config.yaml", "--out", "out"]
    assert train(text_file, *options) == 0
    checkpoint = open_pretrained("out/checkpoint.safetensors")
    assert checkpoint.model.config == xLSTMLargeConfig(vocab_size=256, **LARGE)  # type: ignore[arg-type]
    assert checkpoint.load_tokenizer() == ByteTokenizer()


def tokenizer_file() -> str:
    pytest.importorskip("tokenizers")
    Path("tokenizer.json").write_text(HuggingFaceTokenizer.learn(TEXT, 300).json, "utf-8")
    return "tokenizer.json"


@pytest.mark.parametrize("kind", ["bytes", "bpe:300", "file"])
def test_bits_are_per_character_whatever_the_tokenizer(
    kind: str, text_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tokenizer_file() if kind == "file" else kind
    options = [*MODELS["xlstm"], "--tokenizer", name, "--out", "out", "--prompt", "’tis"]
    assert train(text_file, *options) == 0
    shown, err = capsys.readouterr()
    checkpoint = open_pretrained("out/checkpoint.safetensors")
    split = split_text(TEXT, 16, checkpoint.load_tokenizer())
    ids, characters = split.validation_ids, len(split.validation)
    assert (len(ids) > characters) == (kind == "bytes")
    bits = validation_bits(checkpoint.load(), ids) * len(ids) / characters
    assert f"{bits:.3f} │ bits/char" in shown
    size = split.tokenizer.size
    assert f"tokens: {size} distinct, {5400 / len(split.train_ids):.2f} characters" in err
    assert "does not restore the text" not in err
    entry = json.loads(Path("out/log.jsonl").read_text().splitlines()[0])
    per_character = len(split.train_ids) / 5400
    assert entry["bits"] == pytest.approx(entry["loss"] * per_character / 0.6931471805599453)
    assert shown.partition("sample:\n")[2].startswith("’tis")


def test_a_tokenizer_that_loses_text_is_named(
    text_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(tokenizer_file())
    described = json.loads(file.read_text("utf-8")) | {"normalizer": {"type": "Lowercase"}}
    file.write_text(json.dumps(described), "utf-8")
    assert train(text_file, "--hidden-size=8", "--tokenizer", str(file)) == 0
    assert "decoding does not restore the text" in capsys.readouterr().err


def test_a_tokenizer_of_whole_words(text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    library = pytest.importorskip("tokenizers")
    kinds = sorted({*TEXT[:5400].split(), *TEXT[5400:].split()})
    words = {word: k for k, word in enumerate(kinds)}
    tokenizer = library.Tokenizer(library.models.WordLevel(words))
    tokenizer.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    tokenizer.save("words.json")
    options = ["--hidden-size=8", "--tokenizer", "words.json", "--window=4"]
    assert train(text_file, *options, "--sample-length=1") == 0
    sample = capsys.readouterr().out.partition("sample:\n")[2]
    first = TEXT[5400:].split()[0]
    assert sample.startswith(first)
    assert sample.removeprefix(first).strip() in words
    assert train(text_file, *options, "--prompt=Xyzzy") == 2
    expected = "text: expected a text that the tokenizer can encode; got an error of"
    assert error(capsys).startswith(f"{expected} the package tokenizers: Word")


@pytest.mark.skipif(os.name == "nt", reason="there are no closed pipes")
def test_a_closed_pipe_ends_the_text_quietly(text_file: str) -> None:
    assert train(text_file, "--hidden-size=8", "--out", "run") == 0
    words = "generate run/checkpoint.safetensors --prompt The --max-new-tokens 1000000"
    command, pipe = [sys.executable, "-m", "numpy_xlstm", *words.split()], subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    assert process.stdout.read(5)[:3] == b"The"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141
