"""A lock that lets one run at a time train in a directory. It ends with its process."""

import os
import socket
from pathlib import Path
from typing import Any
from weakref import finalize

from numpy_xlstm.disk import open_in_place
from numpy_xlstm.errors import OptionError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = "lock"
"""Name of the lock file. The file is not deleted; a process that locks it holds the directory."""

HOLDER = b"process "
"""Beginning of the text in the lock file."""

AFTER = 2**30
"""Byte that is locked on Windows: after the text, so that other processes can read the text."""


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
            _lock(file.fileno())
        except (BlockingIOError, PermissionError) as error:
            raise OptionError(
                f"directory: expected one that no other process trains in; got {directory}, in use "
                f"by {holder!a}"
            ) from error
        file.truncate(0)
        file.seek(0)
        file.write(HOLDER + f"{os.getpid()} on {socket.gethostname()}".encode())


def _lock(descriptor: int) -> None:
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt  # Windows

    os.lseek(descriptor, AFTER, os.SEEK_SET)
    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
