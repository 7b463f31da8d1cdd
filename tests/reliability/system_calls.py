"""Actions at the n-th system call of any function."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

CALLS = frozenset(
    """
    open write writelines flush close fsync replace rename unlink mkdir rmdir link symlink truncate
    ftruncate chmod fchmod flock lockf lseek seek readinto read tofile stat lstat fstat scandir
    """.split()  # noqa: SIM905
)
"""Events of calls of ``os`` and of files, before they are made."""

WRITES = frozenset("open write flush fsync replace rename mkdir truncate ftruncate tofile".split())  # noqa: SIM905
"""Calls that fail on a full or broken disk."""


@contextmanager
def at_call(n: int, act: Callable[[], None], names: frozenset[str] = CALLS) -> Iterator[list[str]]:
    """Act before the n-th of these calls, and collect the names of all calls until then."""
    seen: list[str] = []

    def watch(frame: Any, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ in names and _is_of_system(called):
            seen.append(called.__name__)
            if len(seen) == n:
                sys.setprofile(None)
                act()

    sys.setprofile(watch)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def positions(seen: Sequence[str], trials: int, seed: int) -> list[int]:
    """Return which of these calls to act at, counted from 1: each name once, and a sample.

    One call in ten is in the sample, in two trials two in ten; in ten trials every call is.
    """
    order = (1 + np.random.default_rng(seed).permutation(len(seen))).tolist()
    first_of_each = {seen[call - 1]: call for call in reversed(order)}
    return sorted({*order[: -(-len(seen) * trials // 10)], *first_of_each.values()})


def _is_of_system(called: Any) -> bool:
    """Return whether this is a function of ``os`` or a method of a file on disk."""
    owner = getattr(called, "__self__", None)
    if called.__name__ == "tofile" or getattr(owner, "__name__", "") in (
        "posix",
        "fcntl",
        "io",
        "_io",
    ):
        return True
    kind = type(owner)
    return kind.__module__ == "_io" and kind.__name__ not in ("BytesIO", "StringIO")


def die() -> None:
    """End this process immediately, like a kill from outside."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number: int) -> Callable[[], None]:
    """Return a function that fails like a system call with this errno."""

    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act
