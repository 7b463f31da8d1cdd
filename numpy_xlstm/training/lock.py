"""A lock that lets one run at a time train in a directory. It ends with its process."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
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

    Raises :class:`OptionError` if another process or another run of this process holds it, and
    :class:`OSError` if the file system has no locks, like some network file systems.
    """

    def __init__(self, directory: Path) -> None:
        self.path, self.process = directory / LOCK, os.getpid()
        file = self._file = open_in_place(self.path, os.O_CREAT)
        finalize(self, _release, file, self.process)
        holder = file.read(200).decode(errors="replace")
        try:
            _lock(file.fileno())
        except (BlockingIOError, PermissionError) as error:
            raise OptionError(
                f"directory: expected one that no other process trains in; got {directory}, in use "
                f"by {holder!a}"
            ) from error
        self.check()
        file.truncate(0)
        file.seek(0)
        file.write(HOLDER + f"{self.process} on {socket.gethostname()}".encode())

    def check(self) -> None:
        """Raise :class:`OptionError` unless this process still holds the directory."""
        with suppress(FileNotFoundError):
            same = os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
            if same and self.process == os.getpid():
                return
        raise OptionError(
            f"directory: expected one that this process has locked; {self.path} is locked by a "
            "parent process, or was removed"
        )


def _release(file: IO[bytes], process: int) -> None:
    """Release a lock even if a child process still has the file open, but not in that child."""
    with file, suppress(OSError):
        if fcntl is not None and process == os.getpid():
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def _lock(descriptor: int) -> None:
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt  # Windows

    os.lseek(descriptor, AFTER, os.SEEK_SET)
    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
