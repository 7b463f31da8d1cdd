"""A lock that lets one process at a time train in a directory. It ends with its process."""

import os
import socket
from pathlib import Path
from weakref import WeakValueDictionary, finalize

from numpy_xlstm.disk import NO_LINK, fcntl, flock
from numpy_xlstm.errors import OptionError

LOCK = "lock"
"""Name of the lock file. The file is not deleted; a process that locks it holds the directory."""

WHERE = 2**30
"""Byte that is locked on Windows: after the text, so that other processes can read the text."""


class DirectoryLock:
    """A lock on a directory, in which no other process may train while this object exists.

    Raises
    ------
    OptionError
        If another process holds it. The error contains its process id and its machine.
    OSError
        If the file system has no locks, as some network file systems.
    """

    def __init__(self, directory: Path) -> None:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666)
        finalize(self, os.close, descriptor)
        if not _lock(descriptor):
            holder = os.read(descriptor, 200).decode(errors="replace")
            raise OptionError(
                f"directory: expected one that no other process trains in; got {directory}, "
                f"in use by {holder!a}"
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())


_held: WeakValueDictionary[Path, DirectoryLock] = WeakValueDictionary()


def lock_directory(directory: Path) -> DirectoryLock:
    """Lock a directory, or return the lock if this process already holds it."""
    path = directory.resolve()
    lock = _held.get(path)
    if lock is None:
        lock = _held[path] = DirectoryLock(path)
    return lock


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
