"""Processes that start in a hundredth of a second, and may be killed or crash at any moment."""

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
    ml_dtypes threadpoolctl
    """.split()  # noqa: SIM905
"""What the package imports when it is needed."""

CONTEXT.set_forkserver_preload(["pytest", *LATE, "numpy_xlstm.cli", "tests.reliability.loads"])

LIMIT = 10.0
"""Seconds after which a process hangs."""

MOST = 8 << 30
"""Bytes that no process gets more of, so that one that takes all leaves the machine alive."""


class Answer(NamedTuple):
    """What became of a process."""

    code: int | None
    """0, its exit code, the signal that ended it, negative, or None if it took too long."""
    said: Any
    """What its function has returned, if it has."""
    seconds: float


def start(function: Callable[..., Any], *args: Any) -> Any:
    """Start a process that calls a function of a module."""
    process = CONTEXT.Process(target=_begin, args=(function, *args))
    process.start()
    return process


def ask(function: Callable[..., Any], *args: Any, limit: float = LIMIT) -> Answer:
    """Call a function of a module in a process of its own, where a warning is an error."""
    began = time.perf_counter()
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = start(_answer, theirs, function, args)
    theirs.close()
    said, code = None, None
    try:
        if ours.poll(limit):
            said = ours.recv()
        process.join(max(0.1, limit - (time.perf_counter() - began)))
        code = process.exitcode
    except EOFError:  # it has ended without an answer
        process.join()
        code = process.exitcode
    process.kill()
    process.join()
    ours.close()
    return Answer(code, said, time.perf_counter() - began)


def _begin(function: Callable[..., Any], *args: Any) -> None:
    os.environ["NUMPY_XLSTM_COMPILED"] = "0"  # the memory of a compiler is not that of a file
    sys.modules["matplotlib.figure"] = None  # type: ignore[assignment]  # it takes half a second
    function(*args)


def _answer(pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MOST, MOST))
    pipe.send(function(*args))
    pipe.close()


def silent(argv: list[str], output: Path | None = None) -> None:
    """Run the command line without pictures; what it says goes into a file, or nowhere."""
    from numpy_xlstm.cli import main

    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    descriptor = os.open(output or os.devnull, flags, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.exit(main(argv))
