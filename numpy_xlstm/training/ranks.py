"""Data-parallel training with MPI: each process computes some rows of every batch.

All ranks run the same program. They draw the same batches from the same generator, read the same
clock, and make the same update from the same sum of gradients. They therefore make the same
decisions, and only rank 0 writes files. A communicator is one of ``mpi4py``, or None for a single
process.
"""

import os
import sys
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np

from numpy_xlstm.errors import MissingExtraError, OptionError
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import limit_blas, num_cores, num_threads

LAUNCHED = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
"""Environment variables in which MPI launchers pass the rank to a process."""

MISSING_EXTRA = "several ranks need the mpi extra: pip install 'numpy-xlstm[mpi]'"

Comm = Any
"""A communicator of ``mpi4py``, which is an optional dependency."""


def launched_rank() -> int | None:
    """Return the rank that an MPI launcher gave to this process; None without a launcher."""
    given = (os.environ.get(name, "") for name in LAUNCHED)
    return next((int(rank) for rank in given if rank.isdecimal()), None)


def world() -> Comm | None:
    """Return the communicator of all ranks that were launched together; None for one process.

    BLAS is limited to as many threads as there are cores per rank.

    Returns
    -------
    mpi4py.MPI.Comm or None
        The communicator, for :func:`train_step` and :meth:`TrainingState.save`.

    Examples
    --------
    >>> from numpy_xlstm.training import ranks
    >>> ranks.world() is None  # this program was started without mpiexec
    True
    """
    if launched_rank() is None:
        return None
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise MissingExtraError(MISSING_EXTRA) from error
    comm = MPI.COMM_WORLD
    if comm.size == 1:
        return None
    here = comm.Split_type(MPI.COMM_TYPE_SHARED).size
    limit_blas(max(1, min(num_threads(), num_cores() // here)))
    return comm


def end_all(code: int) -> None:
    """Immediately end all ranks that were launched together."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.COMM_WORLD.size > 1:
        time.sleep(0.5)  # the launcher forwards the last line of a rank
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the reason is already printed
        mpi.COMM_WORLD.Abort(code)


def writes(comm: Comm | None) -> bool:
    """Return whether this is the rank that prints and writes files."""
    return comm is None or comm.rank == 0


def rank_rows(rows: int, comm: Comm | None) -> slice:
    """Return the slice of the rows that belongs to this rank."""
    if comm is None:
        return slice(0, rows)
    return slice(rows * comm.rank // comm.size, rows * (comm.rank + 1) // comm.size)


def rank_generator(rng: np.random.Generator, comm: Comm | None) -> np.random.Generator:
    """Return a generator for this rank, drawn from the common one, which advances on all ranks."""
    if comm is None:
        return rng
    return np.random.default_rng(rng.integers(2**62, size=comm.size)[comm.rank])


def check_ranks(rows: int, accumulate: int, comm: Comm | None) -> None:
    """Raise :class:`OptionError` unless each part of each rank has at least one row."""
    size = 1 if comm is None else comm.size
    if size > rows:
        raise OptionError(f"ranks: expected at most {rows}, one per row of a batch; got {size}")
    if size * accumulate > rows:
        parts = f"{accumulate}" if size == 1 else f"{accumulate} on each of {size} ranks"
        raise OptionError(f"accumulate: expected at most {rows} parts, one per row; got {parts}")


def seconds(comm: Comm | None) -> float:
    """Return the time of rank 0 on all ranks, in seconds from any origin."""
    here = time.perf_counter()
    return here if comm is None else float(comm.bcast(here))


def check_same(comm: Comm | None, **facts: Any) -> None:
    """Raise :class:`OptionError` on all ranks unless all have the same facts.

    Ranks with different facts would wait for each other forever, or train different models. A fact
    is an array, a mapping, or a value whose ``repr`` contains everything.
    """
    if comm is None:
        return
    digests = comm.allgather({name: _digest(value) for name, value in facts.items()})
    for rank, digest in enumerate(digests):
        if differ := [name for name in facts if digest.get(name) != digests[0].get(name)]:
            raise OptionError(
                f"ranks: expected the same {' and '.join(differ)} on all ranks; "
                f"got different ones on ranks 0 and {rank}"
            )


def _digest(value: Any) -> str:
    if isinstance(value, Mapping):
        value = sorted((name, _digest(entry)) for name, entry in value.items())
    if isinstance(value, np.ndarray):
        about = f"{value.dtype} {value.shape}".encode()
        return sha256(about + np.ascontiguousarray(value).tobytes()).hexdigest()
    return sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()


def total(value: float, comm: Comm | None) -> float:
    """Return the sum of a number over all ranks."""
    return value if comm is None else float(comm.allreduce(value))


def total_gradient(
    grads: Mapping[str, Array], params: Mapping[str, Array], comm: Comm
) -> dict[str, Array]:
    """Return the sum of the gradients over all ranks. A rank without gradients adds 0."""
    summed = {name: np.empty(array.shape, array.dtype) for name, array in params.items()}
    for name, array in summed.items():
        grad = grads[name] if grads else np.zeros_like(array)
        comm.Allreduce(np.ascontiguousarray(grad), array)
    return summed
