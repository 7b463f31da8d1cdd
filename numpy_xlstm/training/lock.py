"""A lock that lets one run at a time train in a directory. It ends with its process."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO
from weakref import finalize

from numpy_xlstm.disk import fcntl, flock, is_at, open_in_place
from numpy_xlstm.errors import OptionError

LOCK = "lock"
"""Name of the lock file. The file is not deleted; a process that locks it holds the directory."""

WHERE = 2**30
"""Byte that is locked on Windows: after the text, so that other processes can read the text."""


class DirectoryLock:
    """A lock on a directory, in which nobody else may train while this object exists.

    Raises
    ------
    OptionError
        If another process or another run of this process holds it. The error contains the process
        id and the machine.
    CheckpointError, OSError
        If the lock file is a link, or the file system has no locks, like some network file systems.
    """

    def __init__(self, directory: Path) -> None:
        self.path, self.process = directory / LOCK, os.getpid()
        while True:
            file = self._file = open_in_place(self.path, os.O_CREAT)
            finalize(self, _release, file, self.process)
            if not _lock(file.fileno()):
                holder = file.read(200).decode(errors="replace")
                raise OptionError(
                    f"directory: expected one that no other process trains in; got {directory}, "
                    f"in use by {holder!a}"
                )
            if is_at(self.path, file.fileno()):
                break
        file.truncate(0)
        file.write(f"process {self.process} on {socket.gethostname()}".encode())

    def check(self) -> None:
        """Raise :class:`OptionError` unless this process still holds the directory."""
        if self.process != os.getpid() or not is_at(self.path, self._file.fileno()):
            raise OptionError(
                f"directory: expected one that this process has locked; {self.path} is locked by a "
                "parent process, or was removed"
            )


def _release(file: IO[bytes], process: int) -> None:
    """Release a lock even if a child process still has the file open, but not in that child."""
    with file, suppress(OSError):
        if fcntl is not None and process == os.getpid():
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def _lock(descriptor: int) -> bool:
    """Lock a file; return False if another process holds the lock."""
    if fcntl is not None:
        return flock(descriptor)
    import msvcrt  # Windows

    os.lseek(descriptor, WHERE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except PermissionError:
        return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return True
