"""The step of an LSTM in Rust passes, and fails with a mistake."""

import shutil
import subprocess
from pathlib import Path

import pytest

from numpy_xlstm.conformance import Report, cases, verify
from numpy_xlstm.conformance.ports import from_command

SOURCE = Path(__file__).parents[2] / "examples/rust/lstm_step.rs"


def report(folder: Path, old: str = "", new: str = "") -> Report:
    """Compile the source, with a change, and verify it."""
    compiler = shutil.which("rustc")
    if compiler is None:
        pytest.skip("no Rust compiler")
    text = SOURCE.read_text("utf-8")
    assert not old or text.count(old) == 1
    (folder / "port.rs").write_text(text.replace(old, new) if old else text, "utf-8")
    command = [compiler, "--edition", "2021", "-O", "-D", "warnings", "port.rs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if "linker" in done.stderr:
        pytest.skip("no linker for Rust")
    assert done.returncode == 0, done.stderr
    program = from_command(f"{folder / 'port'} {{in}} {{out}}", folder, 60)
    return verify(cases("lstm.step"), program)


def test_it_passes(tmp_path: Path) -> None:
    assert report(tmp_path).passed


def test_a_mistake_fails(tmp_path: Path) -> None:
    found = report(tmp_path, "dc * i * tanh_slope(z_pre)", "dc * i * (1.0 - z)")
    assert not found.passed
    assert any("dx, dstate0.h, grads" in line for line in found.lines())
