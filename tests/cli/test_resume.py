import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.checkpoints import read_arrays
from numpy_xlstm.cli import main
from numpy_xlstm.training import loop
from tests.cli.shared import error, interrupting

TEXT = "".join(f"{n} times {n} is {n * n}. " for n in range(200))
SMALL = ["--batch-size=4", "--window=8", "--sample-length=9"]
CELL = ["--hidden-size=8", "--embedding-size=4"]
XLSTM = ["--model", "xlstm", "--blocks=2", "--width=8", "--heads=2", "--slstm-at=1"]
TIMES = ("elapsed", "busy")


def train(text_file: Path, out: Path, *options: str) -> int:
    return main(["train", *arguments(text_file, out, *options)])


def arguments(text_file: Path, out: Path, *options: str) -> list[str]:
    model = [] if "--model" in options else CELL
    return [str(text_file), *SMALL, *model, "--out", str(out), *options]


def resume(out: Path, *options: str) -> int:
    return main(["train", "--resume", str(out), *options])


def lines(out: Path) -> list[dict[str, Any]]:
    """The log, without times."""
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


def stored(file: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return all arrays and the training values, without times, for exact comparison."""
    arrays, metadata = read_arrays(file)
    training = {k: v for k, v in metadata["training"].items() if k not in (*TIMES, "log_size")}
    return {name: array.tobytes() for name, array in arrays.items()}, training


def assert_same(one: Path, two: Path) -> None:
    assert lines(one) == lines(two)
    for file in ("checkpoint.safetensors", "best.safetensors"):
        (arrays, training), (expected, known) = stored(one / file), stored(two / file)
        assert arrays.keys() == expected.keys()
        assert [name for name in arrays if arrays[name] != expected[name]] == []
        notes, others = training.pop("notes", {}), known.pop("notes", {})
        assert notes.get("text") == others.get("text")
        assert training == known


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--tbptt", "--dtype", "float64"],
        ["--model", "xlstm-large", "--blocks=1", "--width=16", "--tokenizer=bytes"],
    ],
)
def test_ctrl_c_saves_and_the_run_goes_on_to_the_same_end_and_sample(
    options: list[str],
    text_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(text_file, whole, "--steps", "9", *options) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(loop, "train_step", interrupting(4))
    assert train(text_file, parts, "--steps", "9", *options) == 130
    err = capsys.readouterr().err
    assert f"saved after step 4; resume with numpy-xlstm train --resume {parts}\n" in err
    assert stored(parts / "checkpoint.safetensors")[1]["step"] == 4
    monkeypatch.undo()
    assert resume(parts) == 0
    assert_same(parts, whole)
    out = capsys.readouterr().out
    assert untimed(out) == untimed(expected)
    assert resume(parts) == 0  # all steps are done
    assert untimed(capsys.readouterr().out) == untimed(expected)
    assert resume(parts, "--sample-length", "3", "--prompt", "12") == 0
    assert re.search(r"\nsample:\n12...\n$", capsys.readouterr().out)
    assert_same(parts, whole)


def untimed(out: str) -> tuple[list[str], str]:
    """The results in bits per character, and the sample."""
    table, _, sample = out.partition("sample:")
    rows = [" ".join(line.split()) for line in table.splitlines() if "bits/char │" in line]
    assert len(rows) == 3
    return rows, sample


def test_the_budget_can_be_raised(text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(text_file, out, "--steps", "3", "--cell", "lstm") == 0
    assert resume(out, "--steps", "5") == 0
    assert [entry["step"] for entry in lines(out)] == [1, 2, 3, 4, 5]
    assert resume(out) == 0
    assert len(lines(out)) == 5
    assert "--steps=5" in stored(out / "checkpoint.safetensors")[1]["notes"]["command"]
    assert resume(out, "--minutes", "0.002") == 0
    command = stored(out / "checkpoint.safetensors")[1]["notes"]["command"]
    assert "--minutes=0.002" in command
    assert not any(word.startswith("--steps") for word in command)


def test_a_run_by_time_can_go_on_by_steps(text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(text_file, out, "--minutes", "0.001") == 0
    steps = len(lines(out))
    assert resume(out, "--steps", str(steps + 2)) == 0
    assert [entry["step"] for entry in lines(out)] == list(range(1, steps + 3))


def test_the_files_of_a_run(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    assert train(text_file, out, "--steps", "4", "--validate-every", "2") == 0
    files = ["best.safetensors", "checkpoint.safetensors", "lock", "log.jsonl", "loss.svg"]
    assert sorted(path.name for path in out.iterdir()) == files
    assert [e["step"] for e in lines(out) if "validation" in e] == [2, 4]
    svg = (out / "loss.svg").read_text("utf-8")
    assert svg.startswith("<?xml")
    for name in ("training, smoothed", "validation", "unigram entropy", "bigram entropy"):
        assert name in svg
    validation = lines(out)[-1]["validation"]
    assert re.search(rf"slstm model +│ +{validation:.3f} │", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--steps 2", "--steps: expected at least the 3 of the run; got 2"),
        ("--clip 0.1", "--resume: expected no other options than .*; got --clip"),
        ("--cell slstm --tbptt", "--resume: .*; got --cell, --tbptt"),
        ("--out elsewhere", "--resume: .*; got --out"),
        ("--model xlstm --tokenizer bytes", "--resume: .*; got --model, --tokenizer"),
        ("--save-every 3", "--resume: .*; got --save-every"),
        ("--prompt=", "--prompt: expected at least one character"),
    ],
)
def test_wrong_options(
    options: str, message: str, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(text_file, tmp_path / "out", "--steps", "3") == 0
    before = (tmp_path / "out" / "checkpoint.safetensors").read_bytes()
    capsys.readouterr()
    assert resume(tmp_path / "out", *options.split()) == 2
    assert re.match(message, error(capsys))
    assert (tmp_path / "out" / "checkpoint.safetensors").read_bytes() == before


def test_another_text_is_refused_and_the_same_one_elsewhere_is_not(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert train(text_file, out, "--steps", "3") == 0
    moved = text_file.rename(tmp_path / "moved.txt")
    capsys.readouterr()
    assert resume(out) == 2
    assert re.match(r"text: expected a file; .*text\.txt does not exist", error(capsys))
    text_file.write_text(TEXT.replace("7", "8"), encoding="utf-8")
    assert resume(out) == 2
    sizes = f"{len(TEXT):,} characters, SHA-256 [0-9a-f]+"
    assert re.match(
        f"text: expected the text of the run, {sizes}; got another, {sizes}", error(capsys)
    )
    assert main(["train", str(moved), "--resume", str(out), "--steps", "4"]) == 0
    text_file.unlink()
    assert resume(out, "--steps", "5") == 0
    assert len(lines(out)) == 5


def test_a_directory_that_has_a_run(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(text_file, tmp_path / "out", "--steps", "1") == 0
    capsys.readouterr()
    assert train(text_file, tmp_path / "out", "--steps", "1") == 2
    assert re.match("--out: expected one without a training; got .*resume it, or", error(capsys))


def test_what_cannot_be_resumed(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert resume(out) == 2
    assert re.match(
        r"--resume: expected a directory with a checkpoint\.safetensors; got .*out", error(capsys)
    )
    out.mkdir()
    (out / "checkpoint.npz").touch()
    assert resume(out) == 2
    assert re.match("--resume: .*; resume its checkpoint.npz with the version", error(capsys))
    shutil.rmtree(out)
    assert train(text_file, out, "--steps", "1") == 0
    data = (out / "checkpoint.safetensors").read_bytes()
    (out / "checkpoint.safetensors").write_bytes(data[:-99])
    capsys.readouterr()
    assert resume(out) == 2
    assert re.match(
        r"checkpoint\.safetensors: expected an intact \.safetensors file", error(capsys)
    )


def test_a_training_that_diverges_is_saved_before_the_step_that_does(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--cell", "lstm", "--lr", "1e34", "--clip", "0", "--steps", "50"]
    assert train(text_file, out, *options) == 2
    step = len(lines(out))
    assert step > 0
    err = capsys.readouterr().err
    again = f"numpy-xlstm train --resume {out} --lr 1e+33"
    assert f"saved after step {step}; resume with {again}" in err
    assert f"training diverged at step {step + 1} (" in err
    before = stored(out / "checkpoint.safetensors")
    assert before[1]["step"] == step
    assert all(np.isfinite(np.frombuffer(a, np.float32)).all() for a in before[0].values())
    assert resume(out) == 2
    err = capsys.readouterr().err
    assert f"training diverged at step {step + 1} (" in err
    assert "largest update 0)" not in err
    assert stored(out / "checkpoint.safetensors") == before


def test_a_run_goes_on_with_another_learning_rate(text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(text_file, out, "--lr", "0.01", "--steps", "2", "--schedule", "constant") == 0
    assert resume(out, "--lr", "0.001", "--steps", "4") == 0
    assert resume(out, "--steps", "5") == 0
    training = stored(out / "checkpoint.safetensors")[1]
    assert training["step"] == 5
    assert training["optimizer"]["lr"] == 0.001
    assert "--lr=0.001" in training["notes"]["command"]
