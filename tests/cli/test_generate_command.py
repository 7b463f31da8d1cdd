import argparse
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM
from numpy_xlstm.checkpoints import save_checkpoint
from numpy_xlstm.cli import generate as command
from numpy_xlstm.cli import main
from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation import (
    ByteTokenizer,
    CharacterTokenizer,
    generate_text,
)
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.numerics import Array

LETTERS = CharacterTokenizer("abcd")
Load = Callable[[Any], None]


def lstm() -> LanguageModel:
    rng = np.random.default_rng(0)
    return LanguageModel(LETTERS.size, 8, LSTM(8, 16, rng=rng), rng=rng)


def expected(seed: int = 0, **options: Any) -> str:
    options = {"max_new_tokens": 500, "do_sample": True, "temperature": 0.8, **options}
    return generate_text(lstm(), LETTERS, "ab", **options, rng=np.random.default_rng(seed))


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(argv))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Make the command load a given model of bytes."""

    def set_model(model: Any) -> None:
        checkpoint = SimpleNamespace(model=model, tokenizer=ByteTokenizer())
        monkeypatch.setattr("numpy_xlstm.cli.generate.load_checkpoint", lambda path: checkpoint)

    return set_model


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    path = tmp_path / "model.npz"
    save_checkpoint(path, lstm(), tokenizer=LETTERS)
    return str(path)


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        ("", {}),
        ("--max-new-tokens 30 --seed 3", {"max_new_tokens": 30, "seed": 3}),
        ("--max-new-tokens 0", {"max_new_tokens": 0}),
        ("--temperature 0", {"temperature": 0}),
        ("--temperature 2 --top-k 2 --top-p 0.5", {"temperature": 2, "top_k": 2, "top_p": 0.5}),
        ("--repetition-penalty 1.5", {"repetition_penalty": 1.5}),
        ("--stop dd --stop ca", {"stop": ("dd", "ca")}),
    ],
)
def test_the_prompt_and_what_the_model_makes_of_it(
    argv: str, options: dict[str, Any], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, "--prompt", "ab", *argv.split()) == 0
    assert capsys.readouterr() == (f"ab{expected(**options)}\n", "")


def test_text_is_written_as_it_comes(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def model(tokens: IndexArray, state: Any = None) -> tuple[Array, Any]:
        seen.append(capsys.readouterr().out)
        logits = np.full((1, 1, 256), -np.inf)
        logits[..., "é!".encode()[len(seen) - 1]] = 0
        return logits, None

    load(model)
    assert run("file", "--prompt", "ü", "--max-new-tokens", "3") == 0
    assert seen == ["ü", "", "é"]
    assert capsys.readouterr().out == "!\n"


def test_ctrl_c_ends_the_text(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    def model(tokens: IndexArray, state: Any = None) -> tuple[Array, Any]:
        calls.append(tokens)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        logits = np.full((1, 1, 256), -np.inf)
        logits[..., ord("x")] = 0
        return logits, None

    load(model)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has none
    try:
        assert run("file", "--prompt", "a", "--max-new-tokens", "9") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr() == ("axxx\n", "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--prompt=", "prompt: expected at least one character; got an empty string"),
        ("--prompt xyz", "prompt: expected characters of the training text; got 'x', 'y', 'z'"),
        ("--prompt a --top-p 1.5", r"top_p: expected a number above 0, up to 1; got 1\.5"),
        ("--prompt a --stop=", "stop: expected a sequence of strings"),
    ],
)
def test_bad_options_before_anything_is_written(
    argv: str, message: str, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OptionError, match=message):
        run(checkpoint, *argv.split())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "the following arguments are required: CHECKPOINT, --prompt"),
        ("file", "the following arguments are required: --prompt"),
        (
            "file --prompt a --max-new-tokens -1",
            "argument --max-new-tokens: expected a whole number from 0",
        ),
        (
            "file --prompt a --temperature -1",
            "argument --temperature: expected a number at least 0",
        ),
        ("file --prompt a --top-k 0", "argument --top-k: expected a whole number from 1"),
        ("file --prompt a --top-p 0", "argument --top-p: expected a number above 0"),
        (
            "file --prompt a --repetition-penalty 0.9",
            "argument --repetition-penalty: expected a number at least 1; got '0.9'",
        ),
        ("file --prompt a --seed x", "argument --seed: expected a whole number from 0"),
    ],
)
def test_a_bad_command_line(argv: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(*argv.split())
    assert message in capsys.readouterr().err


def test_a_checkpoint_without_a_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_checkpoint(path, lstm())
    with pytest.raises(OptionError, match=r"checkpoint: expected one with a tokenizer; .*has none"):
        run(str(path), "--prompt", "ab")


def test_a_checkpoint_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "nope.npz", "--prompt", "a"]) == 2
    out, err = capsys.readouterr()
    message = "numpy-xlstm: error: checkpoint: expected a file; nope.npz does not exist\n"
    assert (out, err) == ("", message)
