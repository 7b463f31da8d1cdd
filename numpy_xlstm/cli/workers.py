"""Work on all cores, in processes that end with the command."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any

from numpy_xlstm.numerics.threads import limit_blas, num_cores

MOST = 16
"""Largest number of processes: each imports the package, which takes memory and half a second."""


@contextmanager
def on_all_cores(function: Callable[..., Any], parts: Sequence[Any]) -> Iterator[Iterator[Any]]:
    """Give the results of a function on each part, in order, from a process for each core.

    The other processes import the function from its module. Ctrl-C reaches only this process. When
    the context is left, the processes end, whatever they are doing.
    """
    count = min(MOST, num_cores(), len(parts))
    if count < 2:
        yield map(function, parts)
        return
    before = active_children()
    pool = ProcessPoolExecutor(count, get_context("spawn"), _begin)
    try:
        with _interrupts_held():  # the new processes inherit the blocked signal
            futures = [pool.submit(function, part) for part in parts]
        yield map(Future.result, futures)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in active_children():
            if child not in before:
                child.kill()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the context, if the system can block signals."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _begin() -> None:
    """Prepare a process: Windows would interrupt it too, and BLAS would use all cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_blas(1)
