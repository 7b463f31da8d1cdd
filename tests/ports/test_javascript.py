"""The reader in JavaScript reads a set of vectors, and refuses one that is damaged."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from numpy_xlstm.conformance import cases, write_vectors

READER = Path(__file__).parents[2] / "examples/javascript/read_set.mjs"


def node() -> str:
    """Return Node, from the PATH or from Playwright."""
    if found := shutil.which("node"):
        return found
    driver: Any = pytest.importorskip(
        "playwright._impl._driver", reason="Node is not installed, nor Playwright, which has it"
    )
    executable = driver.compute_driver_executable()
    return str(executable[0] if isinstance(executable, tuple) else executable)


def read(folder: Path, reader: Path = READER) -> "subprocess.CompletedProcess[str]":
    command = [node(), str(reader), str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chosen = [*cases("lstm.step"), cases("layer.embedding")[0]]
    assert len(list(write_vectors(tmp_path / "set", chosen))) == 11
    return tmp_path / "set"


def test_it_reads_a_set_and_its_lstm_passes(folder: Path) -> None:
    done = read(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "11 cases read, 10 of 10 of the LSTM passed\n"


def test_a_wrong_lstm_fails(folder: Path, tmp_path: Path) -> None:
    for name in ("read_set.mjs", "lstm_step.mjs"):
        shutil.copy(READER.parent / name, tmp_path)
    source = tmp_path / "lstm_step.mjs"
    text = source.read_text("utf-8")
    assert text.count("dc * i * (1 - z * z)") == 1
    source.write_text(text.replace("dc * i * (1 - z * z)", "dc * i * (1 - z)"), "utf-8")
    done = read(folder, tmp_path / "read_set.mjs")
    assert done.returncode == 1
    assert (
        "lstm.step.ordinary.float64: dx, dstate0.h, grads.W, grads.R, grads.b wrong" in done.stdout
    )


def edit(folder: Path) -> None:
    path = folder / "bounds/lstm.step.large.float32.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change_cases(folder: Path, change: Any) -> None:
    path = folder / "manifest.json"
    said = json.loads(path.read_text("utf-8"))
    change(said["cases"])
    path.write_text(json.dumps(said), "utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit, "lstm.step.large.float32.safetensors: expected the checksum of the manifest"),
        (lambda folder: change_cases(folder, lambda each: each.pop()), "expected an entry"),
        (lambda folder: change_cases(folder, lambda each: each.append(each[0])), "each case once"),
        (shutil.rmtree, "no such file"),
    ],
)
def test_a_damaged_set_is_refused(folder: Path, damage: Any, message: str) -> None:
    damage(folder)
    done = read(folder)
    assert done.returncode == 2
    assert message in done.stderr
