"""One process at a time trains in a directory: a lock that the end of its process frees."""

import os
import socket
from pathlib import Path
from weakref import WeakValueDictionary, finalize

from numpy_xlstm.disk import NO_LINK, fcntl, flock
from numpy_xlstm.errors import OptionError

LOCK = "lock"
"""The file in the directory. It stays there; what counts is whether a process holds it."""

WHERE = 2**30
"""The byte that Windows locks: one behind the text, which others may read."""


class DirectoryLock:
    """A directory in which no other process may train, for as long as this object lives.

    Raises
    ------
    OptionError
        If another process holds it. The error names its number and its machine.
    OSError
        If there is no lock to be had, as on some network file systems.
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
    """Lock a directory, or return the lock if this process holds it already."""
    path = directory.resolve()
    lock = _held.get(path)
    if lock is None:
        lock = _held[path] = DirectoryLock(path)
    return lock


def _lock(descriptor: int) -> bool:
    """Whether a file is now locked, and by no other process."""
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
