"""``numpy-xlstm verify`` and ``numpy-xlstm vectors``."""

import contextlib
import json
import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from numpy_xlstm.cli import main
from numpy_xlstm.conformance import SMALL, Case, read_vectors
from tests.conformance.small_set import CASE, CASES, PROGRAM, write


def counted(case: Case) -> str:
    return f"{case.subject.name}: 1 of 1 cases passed"


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in CASES:
        write(tmp_path / "right", case)
    right = str(tmp_path / "right")
    assert main(["verify", right]) == 0
    assert "lstm.stack: 1 of 1 cases passed" in capsys.readouterr().out
    assert main(["verify", right, "--json", os.devnull, "--junit", os.devnull]) == 0

    write(tmp_path / "right", CASE, lambda results: results.update(y=-results["y"]))
    (tmp_path / "right" / "stranger.safetensors").write_bytes(b"")
    report, junit = tmp_path / "report.json", tmp_path / "report.xml"
    assert main(["verify", right, "--json", str(report), "--junit", str(junit)]) == 1
    out = capsys.readouterr().out
    count = sum(case.subject is CASE.subject for case in CASES)
    assert f"slstm.sequence: {count - 1} of {count} cases passed" in out
    assert "stranger.safetensors: expected the id of a case" in out
    said = json.loads(report.read_text("utf-8"))
    assert not said["passed"]
    assert [c["id"] for c in said["cases"] if not c["passed"]] == [CASE.id]
    suite = ET.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == (str(len(CASES) + 1), "2")
    failure, unmatched = suite.iter("failure")
    assert "168 of 168 entries" in str(failure.text)
    assert "got another name" in str(unmatched.get("message"))


def test_some_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, CASE)
    write(tmp_path, CASES[0])
    one = ["verify", str(tmp_path), "--subject", CASE.id]
    assert main(one) == 0
    assert capsys.readouterr().out == "slstm.sequence: 1 of 1 cases passed\n"
    assert main([*one, "--subject", CASES[0].id, "--subject", CASE.id]) == 0
    assert capsys.readouterr().out == f"{counted(CASES[0])}\n{counted(CASE)}\n"
    assert main([*one, "--subject", CASES[0].id, "--skip", "slstm"]) == 0
    skipped = "slstm.sequence: 0 of 0 cases passed, 1 skipped"
    assert capsys.readouterr().out == f"{counted(CASES[0])}\n{skipped}\n"
    assert main([*one, "--expect-fail", "slstm.sequence"]) == 1
    assert "expected this case to fail; it passes" in capsys.readouterr().out
    assert main([*one, "--subject", CASES[1].id]) == 1
    assert f"expected {CASES[1].id}.safetensors" in capsys.readouterr().out


def test_the_forward_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def without_gradients(results: dict[str, Any]) -> None:
        for name in [n for n in results if n != "y" and not n.startswith("final")]:
            del results[name]

    write(tmp_path, CASE, without_gradients)
    one = ["verify", str(tmp_path), "--subject", CASE.id]
    assert main(one) == 3
    assert "cases passed, 1 forward only\nforward only: nothing is wrong" in capsys.readouterr().out
    assert main([*one, "--forward"]) == 0
    assert capsys.readouterr().out == f"{counted(CASE)}, 1 forward only\n"
    write(tmp_path, CASE, lambda results: results.pop("dx"))
    assert main(one) == 1
    assert main([*one, "--forward"]) == 0
    write(tmp_path, CASE, lambda results: results.update(y=-results["y"]))
    assert main([*one, "--forward"]) == 1


def test_which_case_a_program_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "port.py").write_text(PROGRAM, "utf-8")
    command = f"'{sys.executable}' '{tmp_path}/port.py' {{in}} {{out}} well"
    ids = [CASE.id, CASES[0].id]
    chosen = ["verify", "--run", command, *(word for name in ids for word in ("--subject", name))]
    assert main(chosen) == 0
    assert capsys.readouterr() == (f"{counted(CASES[0])}\n{counted(CASE)}\n", "")

    shown: list[tuple[int, ...]] = []

    @contextlib.contextmanager
    def display(unit: str) -> Iterator[Callable[..., None]]:
        yield lambda *numbers: shown.append(numbers)

    monkeypatch.setattr("numpy_xlstm.cli.verify.bar_of", display)
    assert main(chosen) == 0
    assert shown == [(1, 2), (2, 2)]


def test_vectors_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "set")
    chosen = ["--subject", "elman.step", "--dtype", "float32"]
    assert main(["vectors", folder, *chosen, "--seed", "3"]) == 0
    assert capsys.readouterr().out == f"elman.step: 7 cases\n7 cases in {folder}, seed 3\n"
    for name in ("README.md", "manifest.schema.json"):
        assert Path(folder, name).read_bytes() == (SMALL.parent / name).read_bytes()
    assert len(Path(folder, "README.md").read_text("utf-8").splitlines()) < 70
    assert main(["verify", f"{folder}/results", "--vectors", folder]) == 0
    assert capsys.readouterr().out == "elman.step: 7 of 7 cases passed\n"


def test_vectors_that_are_interrupted_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "made" / "set"
    chosen = ["vectors", str(folder), "--subject", "elman.step", "--dtype", "float32"]
    with monkeypatch.context() as patched:
        patched.setattr("numpy_xlstm.conformance.files.describe", interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            main(chosen)
    assert not list(folder.parent.iterdir())
    assert main(chosen) == 0
    assert len(read_vectors(folder)) == 7
