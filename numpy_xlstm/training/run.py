"""A training run in a directory, which can be resumed after any interruption."""

import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import count
from math import inf
from pathlib import Path
from typing import Any
from weakref import finalize

from numpy_xlstm.checkpoints import save_pretrained
from numpy_xlstm.checkpoints.tensors import BEST
from numpy_xlstm.config import Config, Count, Real
from numpy_xlstm.disk import (
    checked_path,
    open_in_place,
    open_regular,
    read_regular,
    refuse_link,
)
from numpy_xlstm.documents import MAX_BYTES, parse_json
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation import Tokenizer
from numpy_xlstm.numerics import check_has, check_kind, checked_positive
from numpy_xlstm.training import ranks
from numpy_xlstm.training.loop import Progress
from numpy_xlstm.training.state import TrainingState

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"
PICTURE, RESULT, CURVE = "loss.svg", "result.json", "curve.svg"
"""Names of the files in the directory, without the lock."""

REPLACED = CHECKPOINT, BEST, PICTURE, RESULT, CURVE
"""Files that are written anew, each through a temporary file."""

SAVE_SECONDS = 60.0
"""Largest time between two checkpoints."""

MAX_LINE = 10_000
"""Largest size of a line of the log in bytes."""

LOCK = "lock"
"""Name of the lock file. The file is not deleted; a process that locks it holds the directory."""

HOLDER = b"process "
"""Beginning of the text in the lock file."""


@dataclass(frozen=True)
class RunMetadata(Config):
    """Additional fields of a run."""

    notes: dict[str, Any]
    log_size: Count


@dataclass(frozen=True)
class LogLine(Config):
    """Fields that are read from each line of a log."""

    step: Count
    loss: Real
    bits: Real
    validation: Real | None = None


class DirectoryLock:
    """A lock on a directory, in which nobody else may train while this object exists.

    A process that is forked from its process holds it too, until it ends.

    Raises :class:`OptionError` if another process or another run of this process holds it, and
    :class:`OSError` if the file system has no locks, like some network file systems.
    """

    def __init__(self, directory: Path) -> None:
        file = open_in_place(directory / LOCK, os.O_CREAT)
        finalize(self, file.close)
        holder = file.read(200).decode(errors="replace")
        try:
            if fcntl is not None:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                import msvcrt  # Windows

                # a byte after the text, which other processes can then read
                os.lseek(file.fileno(), 2**30, os.SEEK_SET)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except (BlockingIOError, PermissionError) as error:
            raise OptionError(
                f"directory: expected one that no other process trains in; got {directory}, in use "
                f"by {holder!a}"
            ) from error
        file.truncate(0)
        file.seek(0)
        file.write(HOLDER + f"{os.getpid()} on {socket.gethostname()}".encode())


@dataclass
class Run:
    """A training in a directory: a ``checkpoint.safetensors`` and a ``log.jsonl``.

    The checkpoint is replaced atomically. It contains the complete state of the training and the
    length of the log. When the training is resumed, later lines of the log are removed, so that
    every step is in the log exactly once. After a validation that is better than all previous ones,
    the model is saved to ``best.safetensors``. While a run exists, no other can begin or resume in
    its directory. An example is in ``docs/training.md``.

    Parameters
    ----------
    directory : Path
        Directory of ``checkpoint``, ``best`` and ``log``.
    state : TrainingState
        State of the training.
    tokenizer : Tokenizer, optional
        Tokenizer of the model, which is stored with it.
    notes : dict[str, Any]
        Additional JSON values, such as the options of the training.
    save_every : int, optional
        Largest number of steps between two checkpoints, which are also at most a minute apart.
    comm : mpi4py.MPI.Comm, optional
        Ranks that train together: all call the same methods, and rank 0 alone writes.
    """

    directory: Path
    state: TrainingState
    tokenizer: Tokenizer | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    save_every: int | None = None
    comm: ranks.Comm | None = None
    lock: DirectoryLock | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_kind("state", self.state, TrainingState)
        if self.tokenizer is not None:
            check_has("tokenizer", self.tokenizer, "encode", "decode")
        if self.save_every is not None:
            checked_positive("save_every", self.save_every)
        self.directory = checked_path("directory", self.directory)
        self.checkpoint, self.best, self.log = (self.directory / n for n in (CHECKPOINT, BEST, LOG))
        self._saved = self.state.step, ranks.seconds(self.comm)

    @classmethod
    def begin(cls, directory: str | Path, state: TrainingState, **options: Any) -> "Run":
        """Begin a training in a directory, created if necessary, and save a first checkpoint.

        Raises :class:`OptionError` if the directory contains other files: nothing is overwritten.
        """
        run = cls(checked_path("directory", directory), state, **options)
        if ranks.writes(run.comm):
            run.directory.mkdir(parents=True, exist_ok=True)
            _check_new(run.directory)
            run.lock = _locked(run.directory)
            _check_new(run.directory)  # another process may have begun one
            open_in_place(run.log, os.O_CREAT).close()
        run.save()
        return run

    @classmethod
    def resume(
        cls, directory: str | Path, *, comm: ranks.Comm | None = None, **options: Any
    ) -> "Run":
        """Resume the training in a directory, and remove later steps from its log.

        Raises :class:`CheckpointError` if the checkpoint or the log is damaged, or the log is
        shorter than at the checkpoint. If ``best.safetensors`` is missing, there is a warning, and
        earlier validations do not count.
        """
        file = checked_path("directory", directory) / CHECKPOINT
        if not file.exists():
            raise FileNotFoundError(
                f"directory: expected a directory with a {CHECKPOINT}; got {directory}"
            )
        options["lock"] = _locked(Path(directory)) if ranks.writes(comm) else None
        state, checkpoint = TrainingState.load(file, comm=comm)
        stored = RunMetadata.read(f"{CHECKPOINT}: training", checkpoint.training, others=True)
        options |= {"tokenizer": checkpoint.load_tokenizer(), "notes": stored.notes, "comm": comm}
        run = cls(Path(directory), state, **options)
        size = run.log.stat().st_size if run.log.exists() else 0
        if size < stored.log_size:
            raise CheckpointError(
                f"{LOG}: expected the {stored.log_size} bytes that it had at step {state.step}; "
                f"got {size}"
            )
        if ranks.writes(comm):
            with open_in_place(run.log) as log:
                log.truncate(stored.log_size)
            for _ in read_log(run.log):  # a damaged line is an error now, not after the training
                pass
        if state.validations and not run.best.exists():
            missing = f"{BEST} is missing: earlier validations do not count"
            logging.getLogger("numpy_xlstm").warning(missing)
            state.validations.clear()
        return run

    def add(self, progress: Progress) -> None:
        """Append a report to the log, and save a checkpoint or the best model if they are due."""
        if ranks.writes(self.comm):
            names = ("step", "loss", "bits", "grad_norm", "lr", "tokens", "elapsed", "validation")
            entry = {name: getattr(progress, name) for name in names}
            known = {name: value for name, value in entry.items() if value is not None}
            self._append(json.dumps(known).encode() + b"\n")
            earlier = [bits for step, bits in self.state.validations if step < self.state.step]
            if progress.validation is not None and progress.validation < min(earlier, default=inf):
                self.save_best()
        step, seconds = self._saved
        by_steps = self.save_every is not None and self.state.step - step >= self.save_every
        if by_steps or ranks.seconds(self.comm) - seconds >= SAVE_SECONDS:
            self.save()

    def _append(self, line: bytes) -> None:
        """Append a whole line to the log, or leave the log unchanged."""
        with open_in_place(self.log) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, f"{LOG}: expected room for a line; got none")
            except BaseException:
                os.ftruncate(file.fileno(), size)
                raise

    def save_best(self) -> None:
        """Save the model, without optimiser and generator, to ``best.safetensors``."""
        training = {name: getattr(self.state, name) for name in ("step", "tokens", "validations")}
        save_pretrained(self.state.model, self.best, tokenizer=self.tokenizer, training=training)

    def save(self) -> None:
        """Save a checkpoint after the log has been flushed to the disk."""
        facts: dict[str, Any] = {"tokenizer": self.tokenizer, "notes": self.notes}
        if ranks.writes(self.comm):
            with open_in_place(self.log) as file:
                os.fsync(file.fileno())
                facts["log_size"] = file.seek(0, os.SEEK_END)
        self.state.save(self.checkpoint, comm=self.comm, **facts)
        self._saved = self.state.step, ranks.seconds(self.comm)


def read_log(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the complete lines of a log, which may be longer than the memory.

    Raises :class:`CheckpointError` at a line that is invalid.
    """
    with open_regular("log", path) as file, BufferedReader(file) as lines:  # type: ignore[type-var]
        name, size = Path(path).name, os.fstat(file.fileno()).st_size
        for number in count(1):
            line = lines.readline(min(MAX_LINE, size - lines.tell()))
            if not line.endswith(b"\n"):
                if len(line) < MAX_LINE:  # the end, or the beginning of a line
                    return
                raise CheckpointError(f"{name}: line {number}: expected at most {MAX_LINE:,} bytes")
            try:
                entry = parse_json(line)
            except ValueError as error:
                raise CheckpointError(
                    f"{name}: expected JSON in every line; got {error} in line {number}"
                ) from error
            LogLine.read(f"{name}: line {number}", entry, others=True)
            yield entry


def _locked(directory: Path) -> DirectoryLock:
    """Lock a directory without links, and remove the temporary files of killed runs."""
    for name in REPLACED:
        refuse_link(directory / name)
    lock = DirectoryLock(directory)
    for name in REPLACED:
        for partial in directory.glob(f"{name}.{16 * '[0-9a-f]'}.partial"):
            partial.unlink()
    return lock


def _check_new(directory: Path) -> None:
    """Raise :class:`OptionError` for files other than those of an interrupted ``Run.begin``."""
    if (directory / CHECKPOINT).exists():
        raise OptionError(
            f"directory: expected one without a training; got {directory}, which has one: resume "
            "it, or use another directory"
        )
    for path in sorted(directory.iterdir()):
        left = path.match(f"{CHECKPOINT}.*.partial")
        if path.name == LOG:
            left = path.stat().st_size == 0
        if path.name == LOCK:
            text = read_regular("lock", path, MAX_BYTES)
            left = not text or text.startswith(HOLDER)
        if not left:
            raise OptionError(
                f"directory: expected a new or an empty folder; got {directory}, which contains "
                f"{path.name!a}"
            )
