"""The command ``gradcheck``: table, exit codes and JSON report."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.cli import gradcheck as command
from numpy_xlstm.cli import main
from numpy_xlstm.cli.gradcheck import QUICK
from numpy_xlstm.conformance import suite
from numpy_xlstm.conformance.suite import cases

pytest.importorskip("rich", reason="rich (the extra 'cli') is not installed")


def test_one_cell_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", "LSTM.step", "elman.sequence", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "lstm.step" in out
    assert "elman.sequence/tanh/lengths" in out
    assert "mlstm" not in out
    assert "all 5 passed" in out
    assert "seed 3" in out
    assert out.startswith("5 checks, float64, with the largest relative error")


def test_every_case_is_checked_if_none_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What each check finds is tested by ``tests/gradcheck/test_suite.py``."""
    passed, checked = gradcheck((lambda x: (x, None), lambda dy, cache: dy), np.ones(2)), []

    def check(target: Any, *inputs: Any, **options: Any) -> Any:
        checked.append((target, options))
        return passed

    monkeypatch.setattr(command, "gradcheck", check)
    monkeypatch.setattr(
        command, "on_all_cores", lambda check, names: nullcontext(map(check, names))
    )
    assert main(["gradcheck", "--json", "report.json"]) == 0
    assert f"all {len(cases())} passed" in capsys.readouterr().out
    report = json.loads(Path("report.json").read_text("utf-8"))
    assert (list(report["reports"]), report["dtype"]) == (list(cases()), "float64")
    expected = [case(np.random.default_rng(0), np.float64)[0] for case in cases().values()]
    assert [type(target) for target, _ in checked] == [type(target) for target in expected]
    assert all(options == {"rng": 0, **QUICK} for _, options in checked)


def test_everything_is_checked_so_that_one_wrong_entry_is_found() -> None:
    def backward(dy: Any, x: Any) -> Any:
        return 3 * x**2 * dy * (1 + 1e-6 * (np.arange(100) == 17))

    x = np.random.default_rng(0).standard_normal(100)
    for seed in range(20):
        report = gradcheck((lambda x: (x**3, x), backward), x, rng=seed, **QUICK)
        assert not report.passed


def test_a_check_that_says_nothing_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def at_zero(rng: Any, dtype: Any) -> Any:
        x = np.zeros(3, dtype)
        return (lambda a, x: (a * x, (a, x)), lambda dy, c: (dy * c[1], dy * c[0])), (x + 1, x)

    monkeypatch.setattr(suite, "cases", lambda: {"product": at_zero})
    assert main(["gradcheck", "product"]) == 1
    out = capsys.readouterr().out
    assert out.count("vacuous") == 2
    assert "1 of 1 did not pass" in out
    assert "pass a state, inputs and parameters where it is not" in out


@pytest.mark.skipif(os.name != "posix", reason="Windows has no /dev")
def test_a_narrow_terminal_without_unicode_and_a_report_to_a_device() -> None:
    environment = os.environ | {"COLUMNS": "80", "PYTHONIOENCODING": "ascii"}
    words = "gradcheck elman.step peephole.step lstm.step --verbose --json /dev/stderr"
    command = [sys.executable, "-m", "numpy_xlstm", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    table = done.stdout.split("all 4 passed")[0].split("\n\nlstm.step")[0]
    assert len(re.findall(r"\d\.\de-\d\d", table)) == 4
    assert json.loads(done.stderr)["passed"] is True


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_report_to_a_pipe_whose_reader_waits() -> None:
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE) as reader:
        assert main(["gradcheck", "elman.step", "--json", "pipe"]) == 0
        assert reader.stdout is not None
        assert json.load(reader.stdout)["passed"] is True


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
    assert main(["gradcheck", *names, "--json", str(file)]) == 130
    out = capsys.readouterr().out
    assert out.endswith("2 of 4 checked, interrupted\n")
    assert "passed" not in out
    report = json.loads(file.read_text())
    assert len(report["reports"]) == 2
    assert report["passed"] is False


ON_TWO_CORES = """
import os, sys, time
from numpy_xlstm.cli import gradcheck

gradcheck.num_cores = lambda: 2

def work(seconds):
    os.write(1, b"started\\n")  # in one piece: both processes write into one pipe
    time.sleep(seconds)

if __name__ == "__main__":
    with gradcheck.on_all_cores(work, [float(sys.argv[1])] * 2) as done:
        list(done)
"""


def on_two_cores(folder: Path, seconds: float) -> list[str]:
    """Write a program that sleeps in two processes, and return its command."""
    (folder / "program.py").write_text(ON_TWO_CORES)
    return [sys.executable, str(folder / "program.py"), str(seconds)]


def test_modules_of_the_working_directory_are_not_imported(tmp_path: Path) -> None:
    hostile = "import os\nos.mkdir(os.path.join(os.path.dirname(__file__), 'imported'))"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in {"numpy", "numpy_xlstm", "scipy", "numba", *sys.stdlib_module_names} - {"os"}:
        (elsewhere / f"{name}.py").write_text(hostile)
    subprocess.run(on_two_cores(tmp_path, 0), cwd=elsewhere, check=True)
    assert not (elsewhere / "imported").exists()


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_no_process_outlives_a_check_that_a_signal_ends(number: str, tmp_path: Path) -> None:
    command, pipe, nowhere = on_two_cores(tmp_path, 600), subprocess.PIPE, subprocess.DEVNULL
    heard = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
    with subprocess.Popen(
        command, stdout=pipe, stderr=nowhere, start_new_session=True, preexec_fn=heard
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
            process.send_signal(getattr(signal, number))
            process.communicate(timeout=60)  # until no process holds the pipe
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
