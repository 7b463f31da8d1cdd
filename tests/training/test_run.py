import errno
import io
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.checkpoints import open_pretrained
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation import ByteTokenizer
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Progress, Run, TrainingState, ranks
from numpy_xlstm.training.run import REPLACED, DirectoryLock, read_log
from numpy_xlstm.training.text import read_text
from tests.training.build import started


def take(run: Run, steps: int, validation: float | None = None) -> None:
    """Pretend to take steps."""
    for _ in range(steps):
        run.state.advance(8, run.state.step + 1.0, None)
        step = run.state.step
        progress = Progress(step, 0.1, 2.0, 0.3, 1e-3, 8 * step, float(step))
        run.add(progress._replace(validation=validation))


def saved_step(run: Run) -> int:
    return int(TrainingState.load(run.checkpoint)[0].step)


def test_the_lines_of_the_log(tmp_path: Path) -> None:
    run = Run.begin(tmp_path / "new" / "run", started())
    take(run, 1)
    take(run, 1, validation=3.5)
    same = {"loss": 2.0, "bits": 2.8853900817779268, "grad_norm": 0.3, "lr": 1e-3}
    assert [json.loads(line) for line in run.log.read_text().splitlines()] == [
        {"step": 1, **same, "tokens": 8, "elapsed": 1.0},
        {"step": 2, **same, "tokens": 16, "elapsed": 2.0, "validation": 3.5},
    ]


def test_it_is_saved_at_the_beginning_and_every_so_many_steps_or_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(ranks, "seconds", lambda comm: now[0])
    run = Run.begin(tmp_path, started(), save_every=3, notes={"a": 1})
    assert saved_step(run) == 0
    seen = []
    for seconds in (0, 1, 2, 61, 119, 120, 122, 123, 124):
        now[0] = seconds
        take(run, 1)
        seen.append(saved_step(run))
    assert seen == [0, 0, 3, 3, 5, 5, 5, 8, 8]
    now[0] = 125 + 60
    take(run, 1)
    assert saved_step(run) == 10
    take(run, 1)
    assert saved_step(run) == 10
    run.save()
    assert saved_step(run) == 11
    del run
    assert Run.resume(tmp_path).notes == {"a": 1}


def test_the_model_of_the_best_validation_is_kept(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    run = Run.begin(tmp_path, started(), tokenizer=tokenizer, save_every=2)
    take(run, 2)
    assert not run.best.exists()
    kept, name = [], "head.weight"
    for validation in (3.5, 3.0, 3.25, 3.0, 2.5, 2.75):
        for array in run.state.model.params.values():
            array += 1
        run.state.validations.append((run.state.step + 1, validation))
        take(run, 1, validation=validation)
        kept.append(open_pretrained(run.best))
    assert [best.training["step"] for best in kept] == [3, 4, 4, 4, 7, 7]
    assert [best.training["validations"][-1][1] for best in kept] == [3.5, 3, 3, 3, 2.5, 2.5]
    before, last = (best.load().params[name] for best in kept[-2:])
    np.testing.assert_array_equal(last, before)
    assert (last != run.state.model.params[name]).all()
    assert isinstance(kept[-1].load_tokenizer(), ByteTokenizer)
    assert not kept[-1].extra  # no moments
    del run
    again = Run.resume(tmp_path)
    again.state.validations.append((again.state.step + 1, 2.6))
    take(again, 1, validation=2.6)
    assert open_pretrained(again.best).training["step"] == 7


def test_what_the_log_has_after_the_checkpoint_is_cut_off(tmp_path: Path) -> None:
    run = Run.begin(tmp_path, started(), save_every=4)
    take(run, 6)
    with run.log.open("a") as file:
        file.write('{"step": 7, "lo')
    assert [entry["step"] for entry in read_log(run.log)] == [1, 2, 3, 4, 5, 6]
    log = run.log
    del run
    again = Run.resume(tmp_path)
    assert again.state.step == 4
    assert [entry["step"] for entry in read_log(log)] == [1, 2, 3, 4]
    take(again, 1)
    again.save()
    assert [entry["step"] for entry in read_log(log)] == [1, 2, 3, 4, 5]
    del again
    assert Run.resume(tmp_path).state.step == 5


def test_temporary_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    run = Run.begin(tmp_path, started())
    left = [tmp_path / f"{name}.0123456789abcdef.partial" for name in REPLACED]
    names = "a.safetensors.0123456789abcdef.partial", "best.safetensors.1.partial"
    others = [tmp_path / name for name in names]
    for file in (*left, *others):
        file.touch()
    with pytest.raises(OptionError):
        Run.resume(tmp_path)  # the run lives
    assert all(file.exists() for file in left)
    del run
    Run.resume(tmp_path)
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in others)


@pytest.mark.parametrize("log", [None, b"", b"{}"])
def test_a_log_that_has_lost_lines(log: bytes | None, tmp_path: Path) -> None:
    run = Run.begin(tmp_path, started(), save_every=2)
    take(run, 2)
    size = run.log.stat().st_size
    run.log.unlink()
    if log is not None:
        run.log.write_bytes(log)
    del run
    message = rf"log\.jsonl: expected the {size} bytes that it had at step 2; got {len(log or b'')}"
    with pytest.raises(CheckpointError, match=message):
        Run.resume(tmp_path)


def test_the_best_model_is_missing_in_a_copied_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There is one warning, and from then on the best model is kept."""
    run = Run.begin(tmp_path, started())
    for validation in (2.0, 3.0):
        run.state.validations.append((run.state.step + 1, validation))
        take(run, 1, validation=validation)
    run.save()
    best = run.best
    del run
    for step, validation in ((3, 2.75), (4, 2.5), (5, 2.625)):
        if step == 3:
            best.unlink()
        again = Run.resume(tmp_path)
        again.state.validations.append((step, validation))
        take(again, 1, validation=validation)
        again.save()
        del again
        assert open_pretrained(best).training["step"] == min(step, 4)
    assert caplog.messages == ["best.safetensors is missing: earlier validations do not count"]


def test_a_training_that_is_no_run(tmp_path: Path) -> None:
    started().save(tmp_path / "checkpoint.safetensors")
    with pytest.raises(
        CheckpointError, match=r"^checkpoint\.safetensors: training: expected notes, log_size too"
    ):
        Run.resume(tmp_path)
    with pytest.raises(FileNotFoundError):
        Run.resume(tmp_path / "none")


OTHER = """
import sys
from numpy_xlstm.training import Run
try:
    run = Run.resume(sys.argv[1])
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
print("held", flush=True)
sys.stdin.read()
"""


def resumed_elsewhere(directory: Path) -> "subprocess.Popen[str]":
    """Resume a run in another process, which holds it until the end of its input."""
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-c", OTHER, str(directory)], text=True, **pipes)


def test_no_other_process_takes_up_a_run_that_lives(tmp_path: Path) -> None:
    run = Run.begin(tmp_path, started())
    message = "directory: expected one that no other process trains in; got "
    with resumed_elsewhere(tmp_path) as other:
        _, errors = other.communicate()
    holder = f"{tmp_path}, in use by 'process {os.getpid()} on "
    assert (other.returncode, errors.startswith(f"OptionError: {message}{holder}")) == (1, True)
    with pytest.raises(OptionError, match=message):
        Run.resume(tmp_path)  # nor another run of this process
    run.save()
    del run
    with resumed_elsewhere(tmp_path) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OptionError, match=f"in use by 'process {other.pid} on "):
            Run.resume(tmp_path)
        other.kill()
        other.wait()
        Run.resume(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="Windows has other locks")
def test_a_system_without_locks_is_not_taken_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(OSError, match="No locks available"):
        DirectoryLock(tmp_path)


def test_a_line_that_is_not_written_whole_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.begin(tmp_path, started())
    take(run, 1)
    before = run.log.read_bytes()

    class Full(io.FileIO):
        def write(self, line: Any) -> int:
            return super().write(line[:10])

    monkeypatch.setattr("os.fdopen", lambda descriptor, mode, **_: Full(descriptor, mode))
    with pytest.raises(OSError, match=r"log\.jsonl: expected room for a line"):
        take(run, 1)
    monkeypatch.undo()
    assert run.log.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3", "line 1: expected a mapping of names; got 3"),
        ('{"step": 1, "bits": 2.0}', r"line 1: expected loss too"),
        ('{"step": 1, "loss": 1}', r"line 1: expected bits too"),
        ('{"step": "1", "loss": 1, "bits": 2}', r"line 1\.step: expected int"),
        ('{"step": 1, "bits": NaN}', "expected JSON in every line; got bits: expected a finite"),
        ("[" * 9998, "expected JSON in every line; got .* in line 1"),
        ('{"step": 1, "loss": 1, "bits": 2}\n{', "expected JSON in every line; got .* in line 2"),
        ("step 2", "expected JSON in every line"),
        (" " * 10_000, "line 1: expected at most 10,000 bytes"),
    ],
)
def test_a_log_of_others(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(line + "\n")
    with pytest.raises(CheckpointError, match=rf"log\.jsonl: {message}"):
        list(read_log(tmp_path / "log.jsonl"))


@pytest.mark.long
def test_memory_does_not_grow_with_the_lines_of_a_log(tmp_path: Path) -> None:
    """The arrays of a log take 24 bytes a line; before, its entries took 25 times the file."""
    path, line = tmp_path / "log.jsonl", b'{"step":1,"loss":1,"bits":1}\n'
    # So many lines that the garbage between two collections, some 150 kB, is little of the bound.
    path.write_bytes(line * 8_000 + line[:-1])  # the last one is not complete
    tracemalloc.start()
    try:
        names = "step", "bits", "validation"
        rows = (tuple(entry.get(name) for name in names) for entry in read_log(path))
        table: Array = np.fromiter(rows, np.dtype((float, 3)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert table.shape == (8_000, 3)
    assert peak < 3 * path.stat().st_size


@pytest.mark.skipif(sys.platform == "win32", reason="Windows would write the zeros")
def test_a_sparse_terabyte_is_no_log_and_no_text(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(CheckpointError, match=r"log\.jsonl: line 1: expected at most 10,000 byt"):
        list(read_log(path))
    with pytest.raises(CheckpointError, match=r"expected at most 2,147,483,648 bytes; got 1,000,"):
        read_text(path)
