"""Child processes that start in 10 ms and can be killed or crash at any moment."""

import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import pytest

if sys.platform == "win32":
    pytest.skip("Windows has no fork, nor signals that kill", allow_module_level=True)

CONTEXT = multiprocessing.get_context("forkserver")
LATE = """
    scipy.linalg scipy.special rich.console rich.progress rich.table rich._emoji_codes yaml
    ml_dtypes threadpoolctl tokenizers
    """.split()  # noqa: SIM905
"""What the package imports when it is needed."""

CONTEXT.set_forkserver_preload(["pytest", *LATE, "numpy_xlstm.cli", "tests.reliability.loads"])

LIMIT = 1800.0
"""Seconds after which a process is taken to hang. It is only a guard: no process is expected to
come near it, even on a slow and busy machine."""

MOST = 8 << 30
"""Limit for the memory of a process in bytes, which protects the machine."""


class Answer(NamedTuple):
    """Outcome of a process."""

    code: int | None
    """Exit code, negative number of the signal that ended it, or None after a timeout."""
    said: Any
    """Return value of its function, if any."""
    seconds: float


def start(function: Callable[..., Any], *args: Any) -> Any:
    """Start a process that calls a function of a module."""
    process = CONTEXT.Process(target=_begin, args=(function, *args))
    process.start()
    return process


def ask(function: Callable[..., Any], *args: Any) -> Answer:
    """Call a function of a module in a separate process, with warnings as errors."""
    began = time.perf_counter()
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = start(_answer, theirs, function, args)
    theirs.close()
    said, code = None, None
    try:
        if ours.poll(LIMIT):
            said = ours.recv()
        process.join(max(0.1, LIMIT - (time.perf_counter() - began)))
        code = process.exitcode
    except EOFError:  # it has ended without an answer
        process.join()
        code = process.exitcode
    process.kill()
    process.join()
    ours.close()
    return Answer(code, said, time.perf_counter() - began)


def _begin(function: Callable[..., Any], *args: Any) -> None:
    from numpy_xlstm.cli import display

    os.environ["NUMPY_XLSTM_COMPILED"] = "0"  # the memory of a compiler is not that of a file
    display.save_picture = lambda *_: None  # nor is matplotlib's, which also takes long
    function(*args)


def _answer(pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MOST, MOST))
    pipe.send(function(*args))
    pipe.close()


def silent(argv: list[str], output: Path | None = None) -> None:
    """Run the command line without pictures; its output goes to a file or is discarded."""
    from numpy_xlstm.cli import main

    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    descriptor = os.open(output or os.devnull, flags, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.exit(main(argv))
