"""Files on disk: only regular files are read, and files are written atomically.

Saving NAME first writes a temporary file ``NAME.<16 hex digits>.partial`` next to it, and renames
that to NAME when all of it is on the disk. The writer holds a lock on the temporary file, and the
lock ends with the process. A temporary file without a lock therefore belongs to a killed writer,
and the next writer of NAME removes it. It is not removed on systems without such locks, such as
Windows and some network file systems.
"""

import errno
import functools
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import existing_file

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

BINARY, NO_LINK, AT_ONCE = (
    getattr(os, name, 0) for name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK")
)
"""Flags that not every system has. Without the last, opening a pipe would wait."""

MAX_BEGINNING = 200
"""Largest number of bytes of NAME in the name of its temporary file."""


def open_regular(name: str, path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading.

    Raises
    ------
    CheckpointError, OSError
        If it does not exist, cannot be read, or is a folder, a device or a pipe.
    """
    path = existing_file(name, path)
    descriptor = os.open(path, os.O_RDONLY | BINARY | AT_ONCE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path.name}: expected a regular file; got a device or a pipe")
    return os.fdopen(descriptor, "rb", buffering=0)


def open_in_place(path: Path, how: int = 0) -> IO[bytes]:
    """Open a file to change it. A link is refused: writing would change another file."""
    refuse_link(path)
    descriptor = os.open(path, os.O_RDWR | BINARY | NO_LINK | AT_ONCE | how, 0o666)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        got = "a link" if status.st_nlink > 1 else "a device or a pipe"
        raise CheckpointError(f"{path.name}: expected a regular file; got {got}")
    return os.fdopen(descriptor, "rb+", buffering=0)


def refuse_link(path: Path) -> None:
    """Raise :class:`CheckpointError` for a symbolic link, whose target would be replaced."""
    if path.is_symlink():
        raise CheckpointError(f"{path.name}: expected a regular file; got a link")


def read_regular(name: str, path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes, or raise an error."""
    with open_regular(name, path) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise CheckpointError(
                f"{Path(path).name}: expected at most {most:,} bytes; got {size:,}"
            )
        return file.read()


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a temporary file to write, which replaces ``path`` when it is complete and on disk.

    The file can also be read. If ``path`` is a link, its target is replaced. The permissions of an
    existing file are kept; a read-only file is not replaced.
    """
    target = Path(os.path.realpath(path))
    mode = _permissions(target)
    _remove_left_behind(target)
    first = 0o666 if mode is None else mode | 0o600
    make = functools.partial(Path.touch, mode=first, exist_ok=False)
    partial, descriptor = _claim(target, make, os.O_RDWR | BINARY)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            if mode is not None:
                partial.chmod(mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if os.name == "nt":  # Windows cannot rename open files
                file.close()
            partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 with :func:`replacing`."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to write, which becomes ``path`` when it is complete and on disk.

    ``path`` may be an empty folder, but not the working folder or a mount point, which cannot be
    replaced by another folder.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir() and (os.path.ismount(target) or target.samefile(os.curdir)):
        raise CheckpointError(
            f"path: expected a new path or an empty folder that can be replaced; {target} is the "
            "working folder or a mount point"
        )
    _remove_left_behind(target)
    partial, descriptor = _claim(target, Path.mkdir, os.O_RDONLY)
    try:
        if target.is_dir():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        yield partial
        _sync_folder(partial)
        if os.name == "nt" and target.is_dir():  # Windows replaces no folders
            target.rmdir()
        _take_place(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    _sync_folder(target.parent)


def _take_place(partial: Path, target: Path) -> None:
    try:
        partial.replace(target)
    except OSError as error:
        if not target.exists() or error.errno == errno.EBUSY:
            raise
        raise CheckpointError(
            f"path: expected a new path or an empty folder; {target} exists"
        ) from error


def _permissions(target: Path) -> int | None:
    """Return the permissions of an existing, writable file, or None if there is no file."""
    if not target.exists():
        return None
    mode = existing_file("path", target).stat().st_mode
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"path: expected a regular file or a new path; got {target}")
    if not os.access(target, os.W_OK):
        raise PermissionError(f"path: expected a writable file; got {target}")
    return stat.S_IMODE(mode)


def _claim(target: Path, make: Callable[[Path], None], how: int) -> tuple[Path, int]:
    """Make a temporary file or folder next to a target, lock it, and return path and descriptor.

    If another process removes it before it is locked, try again.
    """
    while True:
        partial = target.with_name(f"{_beginning(target)}.{secrets.token_hex(8)}.partial")
        make(partial)
        if fcntl is None and partial.is_dir():  # Windows opens no folders
            return partial, -1
        with suppress(FileNotFoundError):
            descriptor = _open_or_remove(partial, how)
            if _lock(descriptor) is not False and is_at(partial, descriptor):
                return partial, descriptor
            os.close(descriptor)


def _beginning(target: Path) -> str:
    """Return the beginning of a name, short enough to append the suffix of a temporary file."""
    return os.fsencode(target.name)[:MAX_BEGINNING].decode("utf-8", "ignore")


def _open_or_remove(partial: Path, how: int) -> int:
    try:
        return os.open(partial, how)
    except OSError:
        with suppress(OSError):
            partial.rmdir() if partial.is_dir() else partial.unlink()
        raise


def flock(descriptor: int) -> bool:
    """Lock a file or folder; return False if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(descriptor: int) -> bool | None:
    """Do the same as :func:`flock`, but return None if locks are not supported."""
    if fcntl is None:
        return None
    try:
        return flock(descriptor)
    except OSError:
        return None


def is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file or folder is still at its path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_left_behind(target: Path) -> None:
    """Remove the unlocked temporary files and folders of this name: their writers were killed."""
    left = re.compile(re.escape(_beginning(target)) + r"\.[0-9a-f]{16}\.partial")
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if left.fullmatch(entry.name):
                _remove_unlocked(Path(entry.path), entry.is_dir(follow_symlinks=False))


def _remove_unlocked(path: Path, is_folder: bool) -> None:
    with suppress(OSError):
        descriptor = os.open(path, (os.O_RDONLY if is_folder else os.O_RDWR) | NO_LINK | AT_ONCE)
        try:
            if _lock(descriptor):
                shutil.rmtree(path) if is_folder else path.unlink()
        finally:
            os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, if the folder is readable."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
