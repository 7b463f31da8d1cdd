"""One process at a time trains in a directory: a lock that the end of its process frees."""

import os
import socket
from pathlib import Path
from weakref import WeakValueDictionary, finalize

from numpy_xlstm.disk import NO_LINK
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
    """

    def __init__(self, directory: Path) -> None:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666)
        try:
            _lock(descriptor)
        except OSError:
            holder = os.read(descriptor, 200).decode(errors="replace")
            os.close(descriptor)
            raise OptionError(
                f"directory: expected one that no other process trains in; got {directory}, "
                f"in use by {holder!a}"
            ) from None
        finalize(self, os.close, descriptor)
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


def _lock(descriptor: int) -> None:
    """Lock a file, or raise an :class:`OSError` if another process has."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        os.lseek(descriptor, WHERE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
