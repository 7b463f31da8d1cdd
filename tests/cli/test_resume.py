import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.checkpoints import from_pretrained, open_pretrained, read_arrays
from numpy_xlstm.cli import main
from numpy_xlstm.training import loop
from tests.cli.shared import error, interrupting

TEXT = "".join(f"{n} times {n} is {n * n}. " for n in range(200))
SMALL = ["--batch-size=4", "--window=8", "--sample-length=9"]
CELL = ["--hidden-size=8", "--embedding-size=4"]
XLSTM = ["--model", "xlstm", "--blocks=2", "--width=8", "--heads=2", "--slstm-at=1"]
TIMES = ("elapsed",)
OUT = Path("out")


def train(text_file: str, out: Path, *options: str) -> int:
    return main(["train", *arguments(text_file, out, *options)])


def arguments(text_file: str, out: Path, *options: str) -> list[str]:
    model = [] if "--model" in options else CELL
    return [text_file, *SMALL, *model, "--out", str(out), *options]


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
    text_file: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, parts = Path("whole"), Path("parts")
    assert train(text_file, whole, "--steps", "9", *options) == 0
    expected = capsys.readouterr().out
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", interrupting(4))
        assert train(text_file, parts, "--steps", "9", *options) == 130
    err = capsys.readouterr().err
    assert f"saved after step 4; resume with numpy-xlstm train --resume {parts}\n" in err
    assert stored(parts / "checkpoint.safetensors")[1]["step"] == 4
    assert resume(parts) == 0
    assert_same(parts, whole)
    out = capsys.readouterr().out
    assert untimed(out) == untimed(expected)
    assert resume(parts) == 0  # all steps are done
    out, err = capsys.readouterr()
    assert untimed(out) == untimed(expected)
    assert (
        "\nthe run had ended after step 9; --steps, --minutes or --patience can continue it\n"
        in err
    )
    assert "training for" not in err
    assert resume(parts, "--sample-length", "3", "--prompt", "12") == 0
    assert re.search(r"\nsample:\n12...\n$", capsys.readouterr().out)
    assert_same(parts, whole)
    assert "--sample-length=9" in stored(parts / "checkpoint.safetensors")[1]["notes"]["command"]


def untimed(out: str) -> tuple[list[str], str]:
    """The results in bits per character, and the sample."""
    table, _, sample = out.partition("sample:")
    rows = [" ".join(line.split()) for line in table.splitlines() if "bits/char │" in line]
    assert len(rows) == 3
    return rows, sample


def test_the_budget_can_be_raised(text_file: str) -> None:
    assert train(text_file, OUT, "--steps", "3", "--cell", "lstm") == 0
    assert resume(OUT, "--steps", "5") == 0
    assert [entry["step"] for entry in lines(OUT)] == [1, 2, 3, 4, 5]
    assert resume(OUT) == 0
    assert len(lines(OUT)) == 5
    assert "--steps=5" in stored(OUT / "checkpoint.safetensors")[1]["notes"]["command"]
    assert resume(OUT, "--minutes", "0.002") == 0
    command = stored(OUT / "checkpoint.safetensors")[1]["notes"]["command"]
    assert "--minutes=0.002" in command
    assert not any(word.startswith("--steps") for word in command)


def test_patience_counts_on_when_a_run_is_resumed(
    text_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bits = iter([3.0, 2.0, 2.5, 2.25, 2.75])
    monkeypatch.setattr(loop, "validation_bits", lambda *args, **options: next(bits))
    Path("held out").write_text(TEXT[:100], "utf-8")
    options = ["--validate-every=2", "--patience=2", "--validation", "held out"]
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", interrupting(7))
        assert train(text_file, OUT, "--steps=40", *options) == 130
    assert resume(OUT) == 0
    assert [line["step"] for line in lines(OUT)] == [*range(1, 9)]
    err = capsys.readouterr().err
    assert f"\nread {text_file}: {len(TEXT):,} characters\n" in err
    assert "\nread held out, for validation: 100 characters\n" in err
    assert "\nstopped after step 8: no better validation since step 4, 2 in a row\n" in err
    assert "\nbest model: step 4, 2.000 bits/char, in out/best.safetensors\n" in err
    assert resume(OUT) == 0
    ended = "\nthe run had ended after step 8; --steps, --minutes or --patience can continue it\n"
    assert ended in capsys.readouterr().err
    Path("held out").rename("moved")
    assert resume(OUT, "--patience=3", "--validation=moved") == 0
    command = stored(OUT / "checkpoint.safetensors")[1]["notes"]["command"]
    assert f"--validation={Path('moved').absolute()}" in command
    assert len(lines(OUT)) == 10
    assert resume(OUT) == 0
    assert len(lines(OUT)) == 10


def test_the_files_of_a_run(text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert train(text_file, OUT, "--steps", "4", "--validate-every", "2") == 0
    files = ["best.safetensors", "checkpoint.safetensors", "lock", "log.jsonl", "loss.svg"]
    assert sorted(path.name for path in OUT.iterdir()) == files
    assert [e["step"] for e in lines(OUT) if "validation" in e] == [2, 4]
    svg = (OUT / "loss.svg").read_text("utf-8")
    assert svg.startswith("<?xml")
    for name in ("training, smoothed", "validation", "unigram entropy", "bigram entropy"):
        assert name in svg
    validation = lines(OUT)[-1]["validation"]
    shown, err = capsys.readouterr()
    assert re.search(rf"slstm model +│ +{validation:.3f} │", shown)
    listed, last = err.partition("written to out: ")[2].splitlines()
    assert last == "try: numpy-xlstm generate out --prompt TEXT"
    assert {*listed.split(", ")} == {*files} - {"lock"}
    assert open_pretrained(OUT).stored["head.weight"].path == OUT / "best.safetensors"


def test_another_text_is_refused_and_the_same_one_elsewhere_is_not(
    text_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(text_file, OUT, "--steps", "3") == 0
    moved = Path(text_file).rename("moved.txt")
    capsys.readouterr()
    assert resume(OUT) == 2
    assert re.match(r"text: expected a file; .*text\.txt does not exist", error(capsys))
    Path(text_file).write_text(TEXT.replace("7", "8"), encoding="utf-8")
    assert resume(OUT) == 2
    sizes = f"{len(TEXT):,} characters, SHA-256 [0-9a-f]+"
    assert re.match(
        f"text: expected the text of the run, {sizes}; got another, {sizes}", error(capsys)
    )
    assert main(["train", str(moved), "--resume", str(OUT)]) == 0
    Path(text_file).unlink()
    assert resume(OUT, "--steps", "5") == 0  # the new place alone was enough to be stored
    assert len(lines(OUT)) == 5


def test_a_training_that_diverges_is_saved_before_the_step_that_does(
    text_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cell", "lstm", "--lr", "1e34", "--clip", "0", "--steps", "50"]
    assert train(text_file, OUT, *options) == 2
    step = len(lines(OUT))
    assert step > 0
    err = capsys.readouterr().err
    again = f"numpy-xlstm train --resume {OUT} --lr 1e+33"
    assert f"saved after step {step}; resume with {again}" in err
    assert f"training diverged at step {step + 1} (" in err
    before = stored(OUT / "checkpoint.safetensors")
    assert before[1]["step"] == step
    assert all(np.isfinite(np.frombuffer(a, np.float32)).all() for a in before[0].values())
    assert resume(OUT) == 2
    err = capsys.readouterr().err
    assert f"training diverged at step {step + 1} (" in err
    assert stored(OUT / "checkpoint.safetensors") == before


def test_a_run_goes_on_with_another_learning_rate(text_file: str) -> None:
    assert train(text_file, OUT, "--lr", "0.01", "--steps", "2", "--schedule", "constant") == 0
    assert resume(OUT, "--lr", "0.001", "--steps", "4") == 0
    assert stored(OUT / "checkpoint.safetensors")[1]["optimizer"]["lr"] == 0.001
    assert resume(OUT, "--steps", "5") == 0
    training = stored(OUT / "checkpoint.safetensors")[1]
    assert training["step"] == 5
    assert training["optimizer"]["lr"] == 0.001
    assert "--lr=0.001" in training["notes"]["command"]


def test_ctrl_c_before_the_first_validation_leaves_a_model(
    text_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "train_step", interrupting(1))
    assert train(text_file, OUT, "--steps", "200") == 130
    assert "best.safetensors" in capsys.readouterr().err
    best = open_pretrained(OUT / "best.safetensors")
    assert best.training["step"] == 1
    params = best.load().params
    for name, array in from_pretrained(OUT / "checkpoint.safetensors").params.items():
        assert (params[name] == array).all()


def test_a_resumed_run_does_not_validate_at_once(
    text_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(text_file, OUT, "--steps=2", "--minutes=1", "--validate-every=10") == 0
    validations: list[int] = []
    known = loop.validation_bits

    def counted(*args: Any, **options: Any) -> float:
        validations.append(1)
        return known(*args, **options)

    monkeypatch.setattr(loop, "validation_bits", counted)
    assert resume(OUT, "--steps=12", "--minutes=1") == 0
    assert [line["step"] for line in lines(OUT) if "validation" in line] == [2, 10, 12]
    assert len(validations) == 2
    assert resume(OUT) == 0  # nothing is left to do
    assert len(validations) == 2
