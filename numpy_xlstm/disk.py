"""Files on disk: only regular files are read, and files are written atomically.

Saving NAME first writes a temporary file ``NAME.<16 hex digits>.partial`` next to it, and renames
that to NAME when all of it is on the disk. A writer that is killed leaves its temporary file, which
can be deleted.
"""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import existing_file

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
    partial = _partial(target)
    how, first = os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode | 0o600
    try:
        with os.fdopen(os.open(partial, how | BINARY, first), "w+b") as file:
            if mode is not None:
                partial.chmod(mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
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
    partial = _partial(target)
    partial.mkdir()
    try:
        if target.is_dir():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        yield partial
        _sync_folder(partial)
        _take_place(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync_folder(target.parent)


def _take_place(partial: Path, target: Path) -> None:
    """Rename a temporary folder, also to the name of an empty one."""
    if os.name == "nt" and target.is_dir():  # Windows replaces no folders
        target.rmdir()
    try:
        partial.replace(target)
    except OSError as error:
        if not target.exists() or error.errno == errno.EBUSY:
            raise
        raise CheckpointError(
            f"path: expected a new path or an empty folder; {target} exists"
        ) from error


def _partial(target: Path) -> Path:
    """Return the path of a new temporary file or folder next to a target."""
    beginning = os.fsencode(target.name)[:MAX_BEGINNING].decode("utf-8", "ignore")
    return target.with_name(f"{beginning}.{secrets.token_hex(8)}.partial")


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
