"""Manifests and ports from others: one error or a report, and nothing is left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm.cli import main
from numpy_xlstm.conformance import SMALL, ports, read_vectors, verify
from numpy_xlstm.conformance.files import digest
from numpy_xlstm.conformance.ports import from_command
from numpy_xlstm.errors import CheckpointError
from tests.conformance.shared import await_end
from tests.reliability.hostile import ODD, tree_changed

NO_FILE = "the program has ended without an error, but has written no file"
CASE = next(case for case in read_vectors(SMALL) if case.id.startswith("lstm.step"))


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """A copy of a few cases of the small set."""
    said = json.loads((SMALL / "manifest.json").read_text("utf-8"))
    said["cases"] = said["cases"][:3]
    said["sha256"] = digest(said)
    for each in said["cases"]:
        for kind, file in each["files"].items():
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(SMALL / file["path"], tmp_path / "set" / file["path"])
    (tmp_path / "set" / "manifest.json").write_text(json.dumps(said), "utf-8")
    return tmp_path / "set"


@pytest.mark.long
def test_manifests_that_are_changed(
    vectors: Path, trials: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, path = np.random.default_rng(0), vectors / "manifest.json"
    honest = json.loads(path.read_text("utf-8"))
    for _ in range(25 * trials):
        tree = tree_changed(honest, rng, [*ODD, [[]], {"bound": [0]}, "x", [3, 3]])
        sealed = rng.random() < 0.8 and isinstance(tree, dict)
        path.write_text(json.dumps(tree | {"sha256": digest(tree)} if sealed else tree), "utf-8")
        assert main(["verify", str(vectors / "results"), "--vectors", str(vectors)]) in (0, 1, 2)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        if not sealed and tree != honest:
            with pytest.raises(CheckpointError):
                read_vectors(vectors)


def test_a_sparse_file_of_tensors_is_not_read(vectors: Path) -> None:
    file = next((vectors / "inputs").iterdir())
    os.truncate(file, 1 << 42)
    with pytest.raises(CheckpointError, match=rf"{file.name}: expected at most 100,000,000 bytes"):
        read_vectors(vectors)


def program(folder: Path, text: str) -> str:
    file = folder / "port.py"
    start = "import os, pathlib, sys, time\ninto, out = sys.argv[1:]\n"
    file.write_text(start + text, "utf-8")
    return f"'{sys.executable}' '{file}' {{in}} {{out}}"


def note(command: str, folder: Path, seconds: float = 600.0) -> str:
    (verdict,) = verify([CASE], from_command(command, folder, seconds)).verdicts
    return verdict.rows[0].note


@pytest.mark.parametrize(
    "text",
    [
        "while True: sys.stderr.buffer.write(bytes(100_000))",
        "with open(out, 'wb') as file:\n    while True: file.write(bytes(100_000))",
        "for n in range(10**9): pathlib.Path(f'{out}.{n}').write_bytes(bytes(100_000))",
        "for n in range(10**9): pathlib.Path(into).with_name(f'.{n}').write_bytes(bytes(100_000))",
    ],
    ids=["standard-error", "file", "files", "hidden-files"],
)
def test_a_program_that_writes_much(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "MOST_WRITTEN", 1_000_000)
    assert (
        note(program(tmp_path, text), tmp_path)
        == "stopped because it wrote more than 1,000,000 bytes"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("os.symlink(out, out)", NO_FILE),
        ("os.symlink('/dev/zero', out)", NO_FILE),
        ("os.mkfifo(out)", NO_FILE),
        ("os.mkdir(out)", NO_FILE),
        ("os.rmdir(pathlib.Path(into).parent)", "the program has ended with exit status 1"),
        ("import shutil; shutil.rmtree(pathlib.Path(into).parent)", NO_FILE),
    ],
)
def test_odd_files_that_a_program_leaves(text: str, message: str, tmp_path: Path) -> None:
    command, scratch = program(tmp_path, text), tmp_path / "scratch"
    scratch.mkdir()
    assert note(command, scratch).startswith(message)
    assert not list(scratch.iterdir())


def test_a_sparse_result(tmp_path: Path) -> None:
    text = "open(out, 'wb').truncate(50_000_000)"
    assert "expected at most" in note(program(tmp_path, text), tmp_path)


def test_a_link_that_a_program_leaves(tmp_path: Path) -> None:
    other, scratch = tmp_path / "other", tmp_path / "scratch"
    other.write_text("somebody's")
    scratch.mkdir()
    text = (
        "for folder in (pathlib.Path(into).parent, pathlib.Path(into).parent.parent):\n"
        "    for name in (into, out):\n"
        "        file = folder / pathlib.Path(name).name\n"
        "        file.unlink(missing_ok=True)\n"
        f"        file.symlink_to({str(other)!r})\n"
    )
    port = from_command(program(tmp_path, text), scratch, 20)
    assert not verify([CASE, CASE], port).passed
    assert other.read_text() == "somebody's"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_termination_ends_the_program_and_removes_its_files(number: int, tmp_path: Path) -> None:
    """Not its files after ``SIGKILL``, and then only with ``setpriv``."""
    killed = number == signal.SIGKILL
    if killed and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv of Linux")
    (tmp_path / "scratch").mkdir()
    pid = tmp_path / "pid"
    text = f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\ntime.sleep(600)"
    command = [sys.executable, "-m", "numpy_xlstm", "verify", "--run", program(tmp_path, text)]
    with subprocess.Popen(
        [*command, "--subject", CASE.id, "--timeout", "600"],
        env=os.environ | {"TMPDIR": str(tmp_path / "scratch")},
        stderr=subprocess.DEVNULL,
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # nohup ignores it
    ) as process:
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait() == (-number if killed else 130)
    await_end(pid.read_text())
    assert killed or not list((tmp_path / "scratch").iterdir())
