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

    Ctrl-C reaches only this process. An exception that leaves the context kills the others.
    """
    count = min(MOST, num_cores(), len(parts))
    if count < 2:
        yield map(function, parts)
        return
    with ProcessPoolExecutor(count, get_context("spawn"), _begin) as pool:
        try:
            previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the processes inherit it
            futures = [pool.submit(function, part) for part in parts]
            signal.signal(signal.SIGINT, previous)
            yield map(Future.result, futures)  # pool.map would cancel some before the kill
        except BaseException:
            for child in active_children():
                child.kill()
            raise


def _begin() -> None:
    """Prepare a process: Windows would interrupt it too, and BLAS would use all cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_blas(1)
