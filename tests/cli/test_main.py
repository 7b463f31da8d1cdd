import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm._version import __version__
from numpy_xlstm.cli import COMMANDS, convert, display, main
from numpy_xlstm.conformance import SMALL

HINT = "the command line needs the cli extra: pip install 'numpy-xlstm[cli]'\n"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "train" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--hidden-size N" in out
    assert "(default: 0.05)" in " ".join(out.split())
    assert "(default: 0.01 for lstm, slstm, mlstm; 0.003 for xlstm," in " ".join(out.split())
    assert "None" not in out


def test_every_help_fits_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80, command


def test_nothing_is_a_request_for_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "gradcheck" in shown
    monkeypatch.setattr(sys, "argv", ["numpy-xlstm"])
    assert main() == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("package", ["rich", "matplotlib"])
def test_without_a_package_of_the_extra(
    package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["train", "--steps", "1"]) == 2
    assert capsys.readouterr() == ("", HINT)
    assert main(["--version"]) == 0
    assert main(["--help"]) == 0
    assert main(["train", "--help"]) == 0
    assert main(["train", "--steps", "none"]) == 2
    assert "argument --steps" in capsys.readouterr().err


FULL = "no space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("arguments", "full", "code", "message"),
    [
        ("train --steps 0", ["stderr"], 2, "argument --steps: expected a whole number"),
        ("train text.txt --hidden-size=2 --steps=1", ["stdout"], 2, FULL),
        ("train text.txt --hidden-size=2 --steps=1", ["stderr", "stdout"], 2, ""),
        ("experiment parity --steps=1", ["stderr"], 2, FULL),
    ],
)
def test_a_stream_on_a_full_disk(arguments: str, full: list[str], code: int, message: str) -> None:
    """One line tells why the command ends, in the stream that has room."""
    Path("text.txt").write_text("one and two " * 200, "utf-8")
    command = [sys.executable, "-m", "numpy_xlstm", *arguments.split()]
    with Path("/dev/full").open("w") as nowhere:
        streams: Any = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        done = subprocess.run(
            command, text=True, check=False, **streams | dict.fromkeys(full, nowhere)
        )
    shown = f"{done.stdout or ''}{done.stderr or ''}"
    assert done.returncode == code
    assert "Traceback" not in shown
    assert message in (shown.splitlines() or [""])[-1]


def test_odd_environment_variables() -> None:
    """A training ends with its results, and says what it could not do."""
    Path("text.txt").write_text("one and two " * 200, "utf-8")
    command = "train text.txt --hidden-size=2 --steps=2 --out=run --sample-length=2"
    done = subprocess.run(
        [sys.executable, "-m", "numpy_xlstm", *command.split()],
        env=os.environ | {"MPLBACKEND": "nonexistent", "COLUMNS": "0", "PMI_RANK": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "slstm model" in done.stdout
    assert "written to run: best.safetensors" in done.stderr
    assert "loss.svg is not drawn: " in done.stderr


def test_an_allocation_that_numpy_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The constructor of NumPy's own MemoryError takes a shape and a dtype."""
    monkeypatch.setattr(convert, "run", lambda arguments: np.empty(2**50))
    assert main(["convert", "a", "b", "--to", "onnx"]) == 2
    assert capsys.readouterr().err.startswith("numpy-xlstm: error: Unable to allocate 8.00 PiB")


def test_in_a_thread() -> None:
    Path("text.txt").write_text("one and two " * 200, "utf-8")
    Path("copy.py").write_text("import shutil, sys\nshutil.copy(*sys.argv[1:])", "utf-8")
    commands = [
        ["train", "text.txt", "--hidden-size=2", "--steps=1"],
        ["experiment", "parity", "--steps=1"],
        ["gradcheck", "layer.linear", "layer.embedding"],
        ["verify", "--run", f"{sys.executable} copy.py {{in}} {{out}}", "--subject=elman"],
    ]
    with ThreadPoolExecutor(1) as pool:
        assert list(pool.map(main, commands)) == [0, 0, 0, 1]


def test_names_do_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    display.say("the folder a:on:\x1b[2J\n[b]c\u202e")
    assert capsys.readouterr().err == "the folder a:on:\\x1b[2J\\n[b]c\\u202e\n"


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running ``code``."""
    report = f"import sys\n{code}\nprint('loaded:', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    assert "rich" not in loaded_by("import numpy_xlstm")
    loaded = loaded_by("from numpy_xlstm.cli import main; main(['--version'])")
    assert "argparse" in loaded
    assert not loaded & {"rich", "mpi4py", "matplotlib"}


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "numpy_xlstm"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"numpy-xlstm {__version__}\n")
    done = subprocess.run([*command, "train", "/no"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "numpy-xlstm: error: text: expected a file; /no does not exist\n"


RESULTS = SMALL / "results"
CHECK, VERIFY = "numpy_xlstm.cli.gradcheck.gradcheck", "numpy_xlstm.conformance.verify"


@pytest.mark.parametrize("earlier", [[], ["earlier"]], ids=["new", "earlier"])
@pytest.mark.parametrize(
    ("command", "work"),
    [
        ("gradcheck layer.silu --json report", CHECK),
        (f"verify {RESULTS} --subject gru.sequence --json report", VERIFY),
        (f"verify {RESULTS} --subject gru.sequence --junit report", VERIFY),
    ],
)
def test_a_report_is_written_whole_or_not_at_all(
    command: str, work: str, earlier: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, FULL)

    def refuse(*args: Any) -> None:
        raise PermissionError(errno.EACCES, "permission denied")

    for text in earlier:
        Path("report").write_text(text)
    for function in (work, "os.fsync"):
        with monkeypatch.context() as m:
            m.setattr(function, fail)
            assert main(command.split()) == 2
        assert [path.read_text() for path in Path().iterdir()] == earlier
    monkeypatch.setattr("pathlib.Path.replace", refuse)  # as in a read-only folder
    assert main(command.split()) == 0
    (report,) = Path().iterdir()
    assert report.read_text().startswith(("{", "<"))
