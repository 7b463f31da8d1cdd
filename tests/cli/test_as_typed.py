"""Messages at a terminal use the words that were typed, and come before work is lost."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.checkpoints import load_checkpoint
from numpy_xlstm.cli import gradcheck as command
from numpy_xlstm.cli import main
from numpy_xlstm.training import loop, train_step

pytest.importorskip("rich", reason="rich (the extra 'cli') is not installed")

TEXT = "".join(f"{n} times {n} is {n * n}. " for n in range(100))
SMALL = ["--hidden-size=8", "--embedding-size=4", "--batch-size=4", "--window=8"]


def test_ctrl_c_before_the_first_validation_leaves_a_model(
    text_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return train_step(*args, **options)

    out = Path("out")
    monkeypatch.setattr(loop, "train_step", interrupted)
    arguments = ["train", text_file, *SMALL, "--steps=200", "--out", str(out)]
    assert main(arguments) == 130
    assert "best.safetensors" in capsys.readouterr().err
    best, stored = (
        load_checkpoint(out / "best.safetensors"),
        load_checkpoint(out / "checkpoint.safetensors"),
    )
    assert best.training["step"] == 1
    for name, array in stored.model.params.items():
        assert (best.model.params[name] == array).all()
    assert (
        main(["generate", str(out / "best.safetensors"), "--max-new-tokens=5", "--prompt=1"]) == 0
    )
    assert len(capsys.readouterr().out.rstrip("\n")) == 6


def test_a_resumed_run_does_not_validate_at_once(
    text_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path("out")
    options = [*SMALL, "--steps=2", "--minutes=1", "--sample-length=0"]
    assert main(["train", text_file, *options, "--out", str(out)]) == 0
    validations: list[int] = []
    known = loop.validation_bits

    def counted(*args: Any, **options: Any) -> float:
        validations.append(1)
        return known(*args, **options)

    monkeypatch.setattr(loop, "validation_bits", counted)
    assert main(["train", "--resume", str(out), "--steps=12", "--minutes=1"]) == 0
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [2, 12]
    assert len(validations) == 1
    assert main(["train", "--resume", str(out)]) == 0  # nothing is left to do
    assert len(validations) == 1


def test_ctrl_c_keeps_what_gradcheck_has_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    def interrupted(target: Any, *inputs: Any, **options: Any) -> Any:
        calls.append(target)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return gradcheck(target, *inputs, **options)

    monkeypatch.setattr(command, "gradcheck", interrupted)
    file = Path("report.json")
    names = ["layer.linear", "layer.layer-norm", "layer.rms-norm", "layer.silu"]
    assert main(["gradcheck", *names, "--method=adjoint", "--json", str(file)]) == 130
    out = capsys.readouterr().out
    assert out.endswith("2 of 4 checked, interrupted\n")
    assert "passed" not in out
    report = json.loads(file.read_text())
    assert len(report["reports"]) == 2
    assert report["passed"] is False
