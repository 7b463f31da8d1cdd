"""The command line: notes and YAML from others, closed streams, long names, many models."""

import json
import resource
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, from_pretrained, save_pretrained
from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.cli import main
from numpy_xlstm.cli.arguments import flags
from numpy_xlstm.documents import parse_yaml
from tests.cli.test_resume import CELL, SMALL, TEXT
from tests.reliability.children import ask, silent
from tests.reliability.hostile import ODD

pytest.importorskip("yaml")


LARGE: list[tuple[str, Any]] = [
    *[("batch_size", 10**6), ("sample_length", 10**9), ("window", 10**6), ("accumulate", 10**9)],
    *[("validate_every", 10**30), ("minutes", 1e308), ("temperature", 1e-320)],
]


LONG = "steps", "minutes", "sample_length", "validate_every"
"""Options with which a run may rightly take long."""


def test_notes_of_a_run(training: Path, tmp_path: Path, trials: int) -> None:
    rng, run = np.random.default_rng(0), tmp_path / "run"
    arrays, honest = read_arrays(training / "run" / "checkpoint.safetensors")
    command = honest["training"]["notes"]["command"]
    options = [word for word in command if word.startswith("--")]
    names = [word[2:].partition("=")[0].replace("-", "_") for word in options]
    chosen: list[tuple[str, Any]] = LARGE[:]
    while len(chosen) < 12 * trials:
        values = [*ODD, 10**6, 10**9, 3, 16, 1e300]
        name, value = names[rng.integers(len(names))], values[rng.integers(len(values))]
        if name not in LONG or not isinstance(value, int | float) or value <= 2:
            chosen.append((name, value))
    for name, value in chosen:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(training / "run", run)
        metadata = json.loads(json.dumps(honest))
        flag = flags([name])
        words = [word for word in command if word.partition("=")[0] != flag]
        metadata["training"]["notes"]["command"] = [*words, f"{flag}={value}"]
        write_arrays(run / "checkpoint.safetensors", arrays, metadata)
        again = ["train", str(training / "text.txt"), "--resume", str(run)]
        answer = ask(silent, again, tmp_path / "said")
        text = (tmp_path / "said").read_text("utf-8")
        assert answer.code in (0, 2), (name, value, answer, text)
        assert "Traceback" not in text
        assert (name, value) not in LARGE[:2] or answer.code == 2
        (tmp_path / "said").unlink()


SCALARS = ["1", "1:1", "1.5", ".inf", "0x1F", "1e5", "~", "yes", "2001-01-01", "!!binary a", "'x'"]
SCALARS += ["1:" * 300 + "1.5", "1:" * 3000 + "1", "9" * 5000, "!!float 1:1", "!!int a"]
SCALARS += ["2001-99-99", "2001-01-01 25:61:61", "!!timestamp x", "!!set {a}"]
SCALARS += ["<<", "=", "? a", "&a 1", "*a"]
FRAMES = ["{}", "x: {}", "[{}]", "x: [{}, {}]", "{}: 1", "? {}\n: 1", "- {}\n- {}", "{{a: {}}}"]


def test_yaml_of_others(trials: int) -> None:
    rng = np.random.default_rng(0)
    pieces = [*SCALARS, "\x00", "\x85", "\ufeff", "---", "...", "%YAML 9", "|", ">", "\t", "@", "`"]
    for n in range(200 * trials):
        text = FRAMES[n % len(FRAMES)]
        while "{}" in text:
            text = text.replace("{}", SCALARS[rng.integers(len(SCALARS))], 1)
        for _ in range(rng.integers(3)):
            at = int(rng.integers(len(text) + 1))
            text = text[:at] + pieces[rng.integers(len(pieces))] + text[at:]
        with suppress(ValueError):
            parse_yaml(text.encode("utf-8"))


def test_a_long_number_in_yaml() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_yaml(b"x: " + b"1:" * 300 + b"1.5")


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("closed", [">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, training: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = [*SMALL, *CELL, "--steps=1", "--sample-length=3", f"--out={out}"]
    for command in (
        ["train", str(training / "text.txt"), *options],
        ["generate", str(out / "best.safetensors"), "--prompt", TEXT[0], "--max-new-tokens", "3"],
    ):
        words = " ".join(f"'{word}'" for word in [sys.executable, "-m", "numpy_xlstm", *command])
        done = subprocess.run(
            f"{words} {closed}", shell=True, capture_output=True, text=True, check=False
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert (out / "log.jsonl").read_text("utf-8").startswith("{")


@pytest.mark.parametrize("name", ["a" * 240, "é" * 120])
def test_long_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.safetensors"
    for _ in range(2):
        save_pretrained(LSTM(3, 4), path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert main(["info", str(path)]) == 0


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_models_do_not_use_up_the_open_files(tmp_path: Path) -> None:
    path, limits = tmp_path / "a.safetensors", resource.getrlimit(resource.RLIMIT_NOFILE)
    save_pretrained(LSTM(3, 4), path)
    before = open_files()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        copies = [from_pretrained(path, mapped=False) for _ in range(400)]
        models = [from_pretrained(path) for _ in range(50)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert open_files() <= before + 50  # a map keeps its file open
    del copies, models
    assert open_files() == before
