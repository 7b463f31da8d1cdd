"""After a kill at any moment or system call, the saved file is complete and a training resumes."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_resume import CELL, SMALL, TEXT, XLSTM, assert_same
from tests.reliability.children import ask, silent, start
from tests.reliability.loads import (
    FILES,
    WRITERS,
    cut_save,
    digest_of,
    killed_save,
    place,
    save,
    stored,
)
from tests.reliability.system_calls import at_call, die, positions

EVERY = 10**9
"""Number of a call that is never reached."""


def checked_whole(kind: str, folder: Path) -> None:
    """What is there is the old model or the new one, and the next save succeeds."""
    expected = [digest_of(kind, number) for number in (1, 2)]
    if kind in FILES or place(kind, folder).exists():
        assert stored(kind, folder) in expected[kind not in FILES :]
    if kind in FILES or not place(kind, folder).exists():
        save(kind, folder, 3)
        assert stored(kind, folder) == digest_of(kind, 3)


def prepared(kind: str, folder: Path) -> Path:
    """Return an empty folder, or one with model 1 if it can be replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if kind in FILES:
        save(kind, folder, 1)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("kind", WRITERS)
def test_a_save_that_is_killed_at_system_calls(kind: str, tmp_path: Path, trials: int) -> None:
    seen = ask(killed_save, kind, prepared(kind, tmp_path / "whole"), 2, EVERY).said
    assert len(seen) > 10
    calls = positions(seen, trials, WRITERS.index(kind))
    for call in calls:
        folder = prepared(kind, tmp_path / "killed")
        assert ask(killed_save, kind, folder, 2, call).code == -signal.SIGKILL
        checked_whole(kind, folder)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_save_that_is_killed_within_a_write(kind: str, tmp_path: Path, trials: int) -> None:
    rng = np.random.default_rng(len(kind))
    save(kind, tmp_path, 2)
    largest = max(path.stat().st_size for path in tmp_path.rglob("model*") if path.is_file())
    for size in rng.integers(1, largest, 5 * trials):
        folder = prepared(kind, tmp_path / "killed")
        assert ask(cut_save, kind, folder, 2, int(size)).code == -signal.SIGXFSZ
        checked_whole(kind, folder)


DROPPED = ["--dropout=0.2", "--tbptt", "--recompute", "--accumulate=2", "--save-every=3"]
TRAININGS = {
    "sLSTM": [*CELL, "--cell=slstm", "--validate-every=7"],
    "mLSTM": [*CELL, "--cell=mlstm", "--tbptt"],
    "xLSTM": [*XLSTM, *DROPPED],
}
LONG, SHORT = "40", "4"


def arguments(name: str, folder: Path, out: str, steps: str) -> list[str]:
    text = folder / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    rest = ["--steps", steps, "--seed", "7", "--out", str(folder / out)]
    return ["train", str(text), *SMALL, "--save-every", "1", *TRAININGS[name], *rest]


def again(command: list[str]) -> list[str]:
    """Return the command that resumes the training, or starts it if there is nothing to resume."""
    out = Path(command[-1])
    return ["train", "--resume", str(out)] if (out / "checkpoint.safetensors").exists() else command


def finish(command: list[str]) -> None:
    answer = ask(silent, again(command))
    assert answer.code == 0


@pytest.mark.long
@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_is_killed_at_random(name: str, tmp_path: Path, trials: int) -> None:
    rng, kills = np.random.default_rng(len(name)), 0
    seconds = ask(silent, arguments(name, tmp_path, "whole", LONG)).seconds
    while kills < trials:
        command = arguments(name, tmp_path, "parts", LONG)
        shutil.rmtree(tmp_path / "parts", ignore_errors=True)
        code = None
        while code != 0:
            process = start(silent, again(command))
            process.join(rng.uniform(0, seconds))
            process.kill()
            process.join()
            code = process.exitcode
            assert code in (0, -signal.SIGKILL)
            kills += code != 0
        assert_same(tmp_path / "parts", tmp_path / "whole")


def killed_training(argv: list[str], call: int) -> None:
    with at_call(call, die) as seen:
        try:
            silent(argv)
        finally:
            Path(f"{argv[-1]}-calls").write_text(str(len(seen)), "ascii")


def test_a_training_that_is_killed_at_system_calls(tmp_path: Path, trials: int) -> None:
    whole, command = (arguments("sLSTM", tmp_path, out, SHORT) for out in ("whole", "parts"))
    assert ask(killed_training, whole, EVERY).code == 0
    count = int((tmp_path / "whole-calls").read_text("ascii"))
    rng = np.random.default_rng(0)
    calls = rng.permutation(count)[: 3 * trials] + 1
    for call in calls:
        shutil.rmtree(tmp_path / "parts", ignore_errors=True)
        assert ask(killed_training, command, int(call)).code == -signal.SIGKILL
        finish(command)
        assert_same(tmp_path / "parts", tmp_path / "whole")
