"""Ctrl-C ends a command in one line, and a bar fits its terminal."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from numpy_xlstm.cli import main
from numpy_xlstm.conformance.suite import cases

pytest.importorskip("rich", reason="rich (the extra 'cli') is not installed")

INTERRUPTED_AT = """
import signal, sys
from importlib.abc import MetaPathFinder
from numpy_xlstm.cli import main

class Interrupting(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "rich.progress":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has none
sys.exit(main(["gradcheck", "layer.linear"]))
"""


def test_ctrl_c_while_a_command_imports_a_package() -> None:
    command = [sys.executable, "-c", INTERRUPTED_AT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0 of 1 checked, interrupted"
    assert done.returncode == 130


INTERRUPTED_AT_THE_END = """
import atexit, signal
from numpy_xlstm.__main__ import command

signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(signal.raise_signal, signal.SIGINT)
raise SystemExit(command())
"""


def test_ctrl_c_while_python_ends() -> None:
    command = [sys.executable, "-c", INTERRUPTED_AT_THE_END, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no process groups of this kind")
def test_ctrl_c_ends_gradcheck_and_its_processes() -> None:
    command = [sys.executable, "-m", "numpy_xlstm", "gradcheck", "--full"]
    options: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, start_new_session=True, **options)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if line.endswith("  ok\n"):
            break
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    table, _, last = (seen + out).rstrip("\n").rpartition("\n")
    assert last == f"{table.count('  ok')} of {len(cases())} checked, interrupted"
    assert err == ""
    assert process.returncode == 130
    assert ended(process.pid)


def ended(group: int) -> bool:
    """Return whether all processes of a group end within a while."""
    for _ in range(12_000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_bar_fits_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "40"}.items():
        monkeypatch.setenv(name, value)
    Path("text.txt").write_text("one and two and three. " * 60, "utf-8")
    sizes = ["--hidden-size=4", "--batch-size=2", "--window=8", "--sample-length=0"]
    assert main(["train", "text.txt", *sizes, "--steps=5"]) == 0
    err = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", capsys.readouterr().err)
    lines = re.split(r"[\r\n]", err)
    assert max(map(len, lines)) <= 40
    assert any("━" in line and line.rstrip().endswith("left") for line in lines)
    assert "…" not in err
    assert "\nstep 5 " not in err
