import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from numpy_xlstm.checkpoints import load_checkpoint
from numpy_xlstm.cli import main
from numpy_xlstm.generation import ByteTokenizer, HuggingFaceTokenizer
from numpy_xlstm.models import (
    mLSTMBlockConfig,
    sLSTMBlockConfig,
    xLSTMLargeConfig,
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


def train(text_file: Path, *options: str) -> int:
    return main(["train", str(text_file), *COMMON, *options])


@pytest.mark.parametrize(
    ("options", "described"),
    [
        (MODELS["xlstm"], "xlstm: 2 blocks, 8 wide, sLSTM at 1, "),
        ([*MODELS["xlstm"], "--blocks=1"], "xlstm: 1 blocks, 8 wide, no sLSTM, "),
        ([*MODELS["xlstm"], "--slstm-at=all"], "xlstm: 2 blocks, 8 wide, sLSTM at 0, 1, "),
        ([*MODELS["xlstm"], "--slstm-at=none"], "xlstm: 2 blocks, 8 wide, no sLSTM, "),
        ([*MODELS["xlstm"], "--dropout=0.5", "--recompute"], "xlstm: 2 blocks"),
        (MODELS["xlstm-large"], "xlstm-large: 2 blocks, 8 wide, "),
        ([*MODELS["xlstm-large"], "--width=12", "--weight-mode=fused"], "xlstm-large: 2 bl"),
    ],
)
def test_a_short_training(
    options: list[str], described: str, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(text_file, *options) == 0
    out, err = capsys.readouterr()
    assert err.startswith(described)
    name = described.partition(":")[0]
    assert re.search(rf"{name} model +│ +[3-8]\.\d{{3}} │ bits/char", out)
    assert re.search(r"\nsample:\n.(.|\n){9}\n$", out)


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_generate_and_info_read_the_checkpoint(
    options: list[str], text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(text_file, *options, "--out", str(tmp_path / "out")) == 0
    capsys.readouterr()
    file = str(tmp_path / "out" / "checkpoint.safetensors")
    assert main(["info", file]) == 0
    out = capsys.readouterr().out
    assert out.startswith(str(load_checkpoint(file).model))
    assert "\nstep       3\n" in out
    assert main(["generate", file, "--prompt", "The ", "--max-new-tokens", "7"]) == 0
    assert re.fullmatch(r"The (.|\n){7}\n", capsys.readouterr().out)


def optimizer(text_file: Path, out: Path, *options: str) -> Any:
    """Return the optimiser of a resumed training."""
    assert train(text_file, "--out", str(out), *options) == 0
    return Run.resume(out).state.optimizer


def test_the_recipe_of_each_model(text_file: Path, tmp_path: Path) -> None:
    cell = optimizer(text_file, tmp_path / "a", "--hidden-size=8")
    xlstm = optimizer(text_file, tmp_path / "b", *MODELS["xlstm"])
    large = optimizer(text_file, tmp_path / "c", *MODELS["xlstm-large"], "--lr=0.5")
    assert (cell.lr, cell.betas, cell.weight_decay) == (1e-2, (0.9, 0.999), 0.3)
    assert (xlstm.lr, xlstm.betas, xlstm.weight_decay) == (3e-3, (0.9, 0.95), 0.1)
    assert (large.lr, large.betas, large.eps) == (0.5, (0.9, 0.95), 1e-5)


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        (["--schedule=constant", "--warmup=0"], [0.5, 0.5, 0.5, 0.5]),
        (["--schedule=constant", "--warmup=0.5"], [0.25, 0.5, 0.5, 0.5]),
        (["--schedule=cosine", "--warmup=0"], [0.434, 0.275, 0.116, 0.05]),
        (["--schedule=cosine", "--warmup=0.5"], [0.25, 0.5, 0.275, 0.05]),
    ],
)
def test_schedules(options: list[str], rates: list[float], text_file: Path, tmp_path: Path) -> None:
    small = ["--hidden-size=8", "--lr=0.5", "--steps=4", "--out", str(tmp_path / "out")]
    assert train(text_file, *small, *options) == 0
    log = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
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
def test_a_configuration_in_json(vocab_size: int | None, text_file: Path, tmp_path: Path) -> None:
    values = without_vocabulary(xlstm_config())
    given = {} if vocab_size is None else {"vocab_size": vocab_size}
    (tmp_path / "config.json").write_text(json.dumps(values | given))
    config, out = str(tmp_path / "config.json"), tmp_path / "out"
    assert train(text_file, "--model=xlstm", "--config", config, "--out", str(out)) == 0
    model = load_checkpoint(out / "checkpoint.safetensors").model
    size = 200 if vocab_size == 200 else len(set(TEXT[:5400])) + 1
    assert model.config == xlstm_config(vocab_size=size)
    assert main(["train", "--resume", str(out), "--steps", "4"]) == 0


def test_a_configuration_in_yaml(text_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "config.yaml").write_text("".join(f"{k}: {v}\n" for k, v in LARGE.items()))
    config, out = str(tmp_path / "config.yaml"), tmp_path / "out"
    options = ["--model=xlstm-large", "--tokenizer=bytes", "--config", config, "--out", str(out)]
    assert train(text_file, *options) == 0
    checkpoint = load_checkpoint(out / "checkpoint.safetensors")
    assert checkpoint.model.config == xLSTMLargeConfig(vocab_size=256, **LARGE)  # type: ignore[arg-type]
    assert checkpoint.tokenizer == ByteTokenizer()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            json.dumps(LARGE | {"vocab_size": 9}),
            "vocab_size: expected at least .* ids.*; got 9",
        ),
        (json.dumps(LARGE | {"blocks": 9}), "xLSTMLargeConfig: expected the names of its fields"),
        (json.dumps(LARGE | {"num_heads": 3}), "qk_dim_factor: expected a width that num_heads"),
        ("[1]", "xLSTMLargeConfig: expected a mapping of names"),
        ("{", "config.json: expected JSON"),
    ],
)
def test_a_wrong_configuration(
    text: str, message: str, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(text)
    config = str(tmp_path / "config.json")
    assert train(text_file, "--model=xlstm-large", "--config", config) == 2
    assert re.match(message, error(capsys))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--blocks 2",
            "--model cell --cell slstm: .*--cell, .* to .*; got --blocks",
        ),
        ("--config a.json", "--model cell --cell slstm: .*; got --config"),
        (
            "--model xlstm --cell lstm",
            "--model xlstm: expected only --blocks, .*; got --cell",
        ),
        (
            "--model xlstm --hidden-size 8 --forget-gate exp --weight-mode fused",
            "--model xlstm: .*; got --forget-gate, --hidden-size, --weight-mode",
        ),
        (
            "--model xlstm-large --slstm-at 1 --dropout 0.1",
            "--model xlstm-large: .*; got --dropout, --slstm-at",
        ),
        (
            "--model xlstm --config a.json --width 8 --heads 2",
            "--config: expected no other options of the model.*; got --heads, --width",
        ),
        ("--model xlstm --config none.json", "--config: expected a file; none.json does not exist"),
        ("--model gru", "argument --model: invalid choice: 'gru'"),
        ("--model xlstm --slstm-at x", "argument --slstm-at: expected block numbers"),
        ("--model xlstm --blocks 2 --slstm-at 2", "--slstm-at: expected block numbers from 0 to 1"),
        ("--model xlstm --dropout 1", "argument --dropout: expected a number at least 0 and below"),
        ("--model xlstm --width 8 --heads 3", "--heads: .*3"),
        ("--warmup 1", "argument --warmup: expected a number at least 0 and below 1; got '1'"),
        ("--schedule linear", "argument --schedule: invalid choice: 'linear'"),
        ("--tokenizer words", "--tokenizer: expected characters, bytes or a tokenizer.json; words"),
        ("--tokenizer bytes --prompt=", "--prompt: expected at least one character"),
    ],
)
def test_wrong_options(
    options: str, message: str, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(text_file, *options.split()) == 2
    assert re.match(message, error(capsys))


def tokenizer_file(path: Path, text: str) -> str:
    library = pytest.importorskip("tokenizers")
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    options = {"vocab_size": 300, "show_progress": False, "initial_alphabet": alphabet}
    tokenizer.train_from_iterator([text], library.trainers.BpeTrainer(**options))
    tokenizer.save(str(path))
    return str(path)


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_bits_are_per_character_whatever_the_tokenizer(
    kind: str, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "bytes" if kind == "bytes" else tokenizer_file(tmp_path / "tokenizer.json", TEXT)
    out = tmp_path / "out"
    options = [*MODELS["xlstm"], "--tokenizer", name, "--out", str(out), "--prompt", "’tis"]
    assert train(text_file, *options) == 0
    shown, err = capsys.readouterr()
    checkpoint = load_checkpoint(out / "checkpoint.safetensors")
    split = split_text(TEXT, 16, checkpoint.tokenizer)
    ids, characters = split.validation_ids, len(split.validation)
    assert (len(ids) > characters) == (kind == "bytes")
    bits = validation_bits(checkpoint.model, ids) * len(ids) / characters
    assert f"{bits:.3f} │ bits/char" in shown
    size = split.tokenizer.size
    assert f"tokens: {size} distinct, {5400 / len(split.train_ids):.2f} characters" in err
    assert "does not restore the text" not in err
    entry = json.loads((out / "log.jsonl").read_text().splitlines()[0])
    per_character = len(split.train_ids) / 5400
    assert entry["bits"] == pytest.approx(entry["loss"] * per_character / 0.6931471805599453)
    assert shown.partition("sample:\n")[2].startswith("’tis")


def test_the_tokenizer_of_a_run_is_in_its_checkpoint(text_file: Path, tmp_path: Path) -> None:
    file, out = tokenizer_file(tmp_path / "tokenizer.json", TEXT), tmp_path / "out"
    assert train(text_file, "--hidden-size=8", "--tokenizer", file, "--out", str(out)) == 0
    Path(file).unlink()
    assert main(["train", "--resume", str(out), "--steps", "5"]) == 0
    checkpoint = load_checkpoint(out / "checkpoint.safetensors")
    assert isinstance(checkpoint.tokenizer, HuggingFaceTokenizer)
    assert checkpoint.training["step"] == 5


def test_a_tokenizer_that_loses_text_is_named(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(tokenizer_file(tmp_path / "tokenizer.json", TEXT))
    described = json.loads(file.read_text("utf-8")) | {"normalizer": {"type": "Lowercase"}}
    file.write_text(json.dumps(described), "utf-8")
    assert train(text_file, "--hidden-size=8", "--tokenizer", str(file)) == 0
    assert "decoding does not restore the text" in capsys.readouterr().err


def test_a_tokenizer_of_whole_words(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = pytest.importorskip("tokenizers")
    kinds = sorted({*TEXT[:5400].split(), *TEXT[5400:].split()})
    words = {word: k for k, word in enumerate(kinds)}
    tokenizer = library.Tokenizer(library.models.WordLevel(words))
    tokenizer.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "words.json"))
    options = ["--hidden-size=8", "--tokenizer", str(tmp_path / "words.json"), "--window=4"]
    assert train(text_file, *options, "--sample-length=1") == 0
    sample = capsys.readouterr().out.partition("sample:\n")[2]
    first = TEXT[5400:].split()[0]
    assert sample.startswith(first)
    assert sample.removeprefix(first).strip() in words
    assert train(text_file, *options, "--prompt=Xyzzy") == 2
    expected = "text: expected a text that the tokenizer can encode; got an error of"
    assert error(capsys).startswith(f"{expected} the package tokenizers: Word")


@pytest.mark.skipif(os.name == "nt", reason="there are no closed pipes")
def test_a_closed_pipe_ends_the_text_quietly(text_file: Path, tmp_path: Path) -> None:
    assert train(text_file, "--hidden-size=8", "--out", str(tmp_path / "run")) == 0
    command = [
        sys.executable,
        "-m",
        "numpy_xlstm",
        "generate",
        str(tmp_path / "run" / "checkpoint.safetensors"),
    ]
    process = subprocess.Popen(
        [*command, "--prompt", "The", "--max-new-tokens", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(5)[:3] == b"The"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141
