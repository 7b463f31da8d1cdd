"""Ports that are programs: how they end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from numpy_xlstm.conformance import SMALL, verify
from numpy_xlstm.conformance.ports import from_command
from tests.conformance.shared import await_end
from tests.conformance.small_set import CASE, CASES, PROGRAM


def note_of(program: Path, text: str) -> str:
    """Write a program, and return the note of its verdict in one case."""
    program.write_text(text, "utf-8")
    command = f"'{sys.executable}' '{program}' {{in}} {{out}}"
    return verify([CASE], from_command(command, program.parent, 600)).verdicts[0].rows[0].note


@pytest.mark.parametrize(
    ("how", "note"),
    [
        ("well", ""),
        ("lack", ""),
        ("fail", "the program has ended with exit status 1: a word of farewell"),
        ("hang", "stopped at the time limit of 0.5 s"),
        ("crash", "the program has ended with signal 9"),
        ("nothing", "the program has ended without an error, but has written no file"),
        ("half", "no results: "),
        ("copy", "expected results; got a copy of the inputs"),
    ],
)
def test_a_program(tmp_path: Path, how: str, note: str) -> None:
    program = tmp_path / "a port.py"
    program.write_text(PROGRAM, "utf-8")
    command = f"'{sys.executable}' '{program}' {{in}} {{out}} {how}"
    port = from_command(command, tmp_path, 0.5 if how == "hang" else 600)
    for verdict in verify(CASES[:2], port).verdicts:
        found = [row.note for row in verdict.rows if not row.passed]
        assert bool(found) == bool(note)
        assert not note or found[0].startswith(note)
        assert verdict.excused == ("skipped" if how == "lack" else "")
    assert list(tmp_path.iterdir()) == [program]


def test_the_first_and_the_last_that_a_program_says(tmp_path: Path) -> None:
    text = "import sys; sys.exit('panicked\\n' + 'at ...\\n' * 100 + 'note')"
    note = note_of(tmp_path / "port.py", text)
    assert note.startswith("the program has ended with exit status 1: panicked at ...")
    assert note.endswith("at ... note")
    assert len(note) < 400


def test_a_program_that_leaves_a_deep_tree(tmp_path: Path) -> None:
    text = (
        "import os, sys; os.chdir(os.path.dirname(sys.argv[2]))\n"
        "for _ in range(1200): os.mkdir('d'); os.chdir('d')\n"
    )
    note = note_of(tmp_path / "port.py", text)
    assert note == "the program has ended without an error, but has written no file"
    subprocess.run(["rm", "-rf", *(str(f) for f in tmp_path.iterdir() if f.is_dir())], check=True)


def test_a_program_of_no_format(tmp_path: Path) -> None:
    program = tmp_path / "port"
    program.write_bytes(b"\x7fno program")
    program.chmod(0o755)
    port = from_command(f"'{program}' {{in}} {{out}}", tmp_path, 600)
    note = verify([CASE], port).verdicts[0].rows[0].note
    assert note.startswith(
        ("the program cannot be run: ", "the program has ended with exit status")
    )


CHILD = f"""
import pathlib, shutil, subprocess, sys, time
into, out, pid, rest = sys.argv[1:]
code = "import time; time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
pathlib.Path(pid).write_text(str(child.pid))
time.sleep(float(rest))
name = pathlib.Path(into).name.removesuffix(".in.safetensors")
shutil.copy(pathlib.Path({str(SMALL)!r}, "results", name + ".safetensors"), out)
"""
"""A program whose child keeps its open files, and which then writes a file."""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no sessions")
@pytest.mark.parametrize(
    ("rest", "seconds", "note"), [(600, 3, "stopped at the time limit of 3 s"), (0, 600, "")]
)
def test_a_child_in_another_session_is_not_waited_for_and_killed_on_linux(
    tmp_path: Path, rest: int, seconds: float, note: str
) -> None:
    program, pid = tmp_path / "port.py", tmp_path / "pid"
    program.write_text(CHILD, "utf-8")
    command = f"'{sys.executable}' '{program}' {{in}} {{out}} '{pid}' {rest}"
    (verdict,) = verify([CASE], from_command(command, tmp_path, seconds)).verdicts
    assert verdict.rows[0].note == note
    if Path("/proc/self/environ").exists():
        await_end(pid.read_text())
    else:
        os.kill(int(pid.read_text()), signal.SIGKILL)
