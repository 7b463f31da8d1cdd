"""Training on several cores: processes that each take some rows of every batch.

Threads of one process would wait for each other's interpreter between any two small operations, of
which a model has many. Processes do not: each has the model, over parameters in memory that all of
them see.
"""

import os
import subprocess
import sys
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np

from numpy_xlstm.checkpoints import save_checkpoint
from numpy_xlstm.errors import (
    OptionError,
    ShapeError,
    WorkerError,
)
from numpy_xlstm.layers.indices import check_indices
from numpy_xlstm.models.protocols import RecurrentModel
from numpy_xlstm.numerics import Array, check_has, check_positive
from numpy_xlstm.signatures import signature
from numpy_xlstm.training.blocks import each_block
from numpy_xlstm.training.messages import RAISED, receive, send
from numpy_xlstm.training.shared import GRADIENTS, MODEL, PARAMETERS, shared
from numpy_xlstm.training.step import Batch, check_batch_and_state, check_recompute, cut_rows
from numpy_xlstm.trees import join_states, leaves, rebuild

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "BLIS")}
"""What tells the BLAS library of a worker that the other cores are taken."""

BEGIN = """
import sys
sys.path.append(sys.argv[1])
from numpy_xlstm.training.worker import main
main(*sys.argv[2:])
"""
"""What a worker runs."""

SECONDS_TO_END = 5.0
"""How long a process that has nothing to do may take to end."""

SHARED_MEMORY = Path("/dev/shm")
"""Where there are files that are in memory only, if the system has that."""


class Workers:
    """Processes that compute the gradient of a batch together, each with its own rows.

    Parameters
    ----------
    model : RecurrentModel
        Of a kind that a checkpoint can hold. Its parameters are read at every batch, its
        configuration now: another model than one like this is refused.
    count : int
        How many processes; as many as there are cores to use.

    Raises
    ------
    OptionError
        If ``count`` is not a positive whole number, or ``model`` has no forward and backward.

    Notes
    -----
    The gradient is that of one process, to rounding, and the same for the same ``count``, bit for
    bit. Use it as a context manager: the processes end with the block, and also with this process.

    Examples
    --------
    ::

        with Workers(model, 2) as workers:
            train_step(model, optimizer, batch, workers=workers)
    """

    def __init__(self, model: RecurrentModel, count: int) -> None:
        self.count = check_positive("count", count)
        check_has("model", model, "forward", "backward")
        self._made_for = _identity(model)
        where = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(
            prefix="numpy-xlstm-", dir=where, ignore_cleanup_errors=True
        )
        folder = Path(self._folder.name)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._end = weakref.finalize(self, _end, self._processes)
        try:
            save_checkpoint(folder / MODEL, model)
            self._params = shared(folder / PARAMETERS, model.params, "w+")
            self._grads = [
                shared(folder / f"{GRADIENTS}{n}", model.params, "w+") for n in range(count)
            ]
            for n in range(count):
                self._processes.append(_start(folder, n))
            for n in range(count):
                self._answer(n)  # it has mapped the files
        except BaseException:
            self.close()
            raise
        finally:
            self._folder.cleanup()  # from here on nothing is left, whatever ends this process

    def gradient(
        self,
        model: RecurrentModel,
        batch: Batch,
        state: Any,
        *,
        accumulate: int = 1,
        recompute: bool = False,
        rng: np.random.Generator | None = None,
    ) -> tuple[float, dict[str, Array], Any]:
        """Mean loss over the batch, its gradient, and the state after it.

        The arrays of the gradient are valid until the next call, which writes into them.

        Raises
        ------
        OptionError
            If the batch has fewer rows than there are parts in all processes.
        ShapeError
            If no target counts.
        IndexError
            If an id is not below the model's ``vocab_size``.
        WorkerError
            If a process has failed. After that, and after any other error or an interrupt on the
            way, the processes have ended, and another call is refused.
        """
        self._check(model, batch, state, accumulate, recompute)
        like = model(batch.inputs[:1, :0])[1]
        if state is not None:
            state = _as(like, state)
        parts = list(cut_rows("processes", batch, state, self.count))
        params = model.params
        each_block(_copy, {name: (self._params[name], array) for name, array in params.items()})
        seeds = [None] * self.count
        if rng is not None:
            seeds = rng.integers(2**62, size=self.count).tolist()
        facts = {"total": batch.num_targets, "accumulate": accumulate, "recompute": recompute}
        try:
            for n, (part, before) in enumerate(parts):
                self._order(n, facts | {"seed": seeds[n]}, part, before)
            answers = [self._answer(n) for n in range(self.count)]
        except BaseException:  # answers that nobody has read would be taken for the next ones
            self.close()
            raise
        states = [rebuild(like, iter(arrays.values())) for _, arrays in answers]
        return sum(facts["loss"] for facts, _ in answers), self._sum(), join_states(states)

    def _check(
        self, model: RecurrentModel, batch: Batch, state: Any, accumulate: int, recompute: bool
    ) -> None:
        if not self._end.alive:
            raise WorkerError("workers: expected processes that run; they have ended")
        if _identity(model) != self._made_for:
            raise OptionError(
                "model: expected the one that the workers were made for, or one like it; "
                f"got a {type(model).__name__} of another kind, size, dtype or configuration"
            )
        check_recompute(model, recompute)
        check_batch_and_state(batch, state)
        if (V := getattr(model, "vocab_size", None)) is not None:
            check_indices("inputs", batch.inputs, V)
            if batch.mask is None:
                check_indices("targets", batch.targets, V)
        rows, wanted = len(batch.inputs), self.count * check_positive("accumulate", accumulate)
        if wanted > rows:
            raise OptionError(
                f"processes, accumulate: expected at most {rows} parts, the rows; got {wanted}"
            )
        if batch.num_targets == 0:
            size = batch.targets.size
            raise ShapeError(
                f"targets: expected at least one position that counts; got 0 of {size}"
            )

    def _order(self, n: int, facts: dict[str, Any], part: Batch, before: Any) -> None:
        arrays: dict[str, Array] = {"inputs": part.inputs, "targets": part.targets}
        if part.mask is not None:
            arrays["mask"] = part.mask
        stream = cast(BinaryIO, self._processes[n].stdin)
        try:
            send(stream, facts, arrays | dict(leaves("", before)))
        except BrokenPipeError:
            raise self._ended(n) from None

    def _answer(self, n: int) -> tuple[dict[str, Any], dict[str, Array]]:
        answer = receive(cast(BinaryIO, self._processes[n].stdout))
        if answer is None:
            raise self._ended(n)
        if "error" in answer[0]:
            kind = RAISED.get(answer[0]["kind"], WorkerError)
            raise kind(f"worker {n}: {answer[0]['error']}")
        return answer

    def _ended(self, n: int) -> WorkerError:
        status = self._processes[n].wait()
        return WorkerError(f"worker {n}: expected a gradient; it has ended with status {status}")

    def _sum(self) -> dict[str, Array]:
        total, *others = self._grads
        for grads in others:
            each_block(_add, {name: (total[name], array) for name, array in grads.items()})
        return total

    def close(self) -> None:
        """End the processes."""
        self._end()

    def __enter__(self) -> Self:
        """Return the workers."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes."""
        self.close()


def _identity(model: RecurrentModel) -> Any:
    """What the model of a worker must have in common with one whose gradient it computes."""
    return signature(model), getattr(model, "config", None), getattr(model, "dropout", 0.0)


def _as(like: Any, state: Any) -> Any:
    """The state in the structure that the model gives to one, whatever tuples it came in."""
    arrays, expected = (list(leaves("state", tree)) for tree in (state, like))
    if len(arrays) != len(expected):
        names = ", ".join(name for name, _ in expected)
        raise ShapeError(f"state: expected {names}; got {len(arrays)} arrays")
    return rebuild(like, (array for _, array in arrays))


def _copy(name: str, target: Array, source: Array) -> None:
    target[...] = source


def _add(name: str, total: Array, summand: Array) -> None:
    total += summand


def _start(folder: Path, number: int) -> "subprocess.Popen[bytes]":
    """Start a worker that imports what this process does, and nothing of the current directory."""
    package = str(Path(__file__).parents[2])
    command = [sys.executable, "-P", "-c", BEGIN, package, str(folder), str(number)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=os.environ | ONE_THREAD)


def _end(processes: "list[subprocess.Popen[bytes]]") -> None:
    """End processes: they leave when nothing more comes, or are made to."""
    for process in processes:
        for stream in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):  # of one that was killed with an order unread
                cast(BinaryIO, stream).close()
    for process in processes:
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
