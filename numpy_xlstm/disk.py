"""Files on disk: read only if they are regular, and written whole or not at all.

What is written is called ``NAME.<16 hex digits>.partial``, beside NAME, until all of it is on the
disk, and then takes its name. Its writer holds a lock on it, which ends with the process, so that
the next writer of NAME can tell what a killed one has left, and removes that. Where the system has
no such locks, as on Windows and some network file systems, it stays.
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
"""Ways to open that not every system has or needs: a pipe would be waited for without the last."""


def open_regular(name: str, path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file to read it, or raise an error: no folder, no device, no pipe.

    Raises
    ------
    CheckpointError, OSError
        If it is no regular file, or there is none, or it cannot be read.
    """
    path = existing_file(name, path)
    descriptor = os.open(path, os.O_RDONLY | BINARY | AT_ONCE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path.name}: expected a regular file; got a device or a pipe")
    return os.fdopen(descriptor, "rb", buffering=0)


def read_regular(name: str, path: str | os.PathLike[str], most: int) -> bytes:
    """Return what is in a file, or raise an error, also if it has more than ``most`` bytes."""
    with open_regular(name, path) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise CheckpointError(
                f"{Path(path).name}: expected at most {most:,} bytes; got {size:,}"
            )
        return file.read()


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write to that takes the place of ``path`` once it is complete and on disk.

    It can be read, too. Where ``path`` is a link, that stays, and what it leads to is replaced. The
    permissions of a file that is there are kept; one that must not be written to stays.
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
            if os.name == "nt":  # what is open cannot get another name there
                file.close()
            partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text, in UTF-8, as :func:`replacing` does."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write to that takes the name ``path`` once it is complete and on disk.

    There may be an empty folder of that name, other than the working folder and a mount point,
    which would not be the one that is there afterwards.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir() and (os.path.ismount(target) or target.samefile(os.curdir)):
        raise CheckpointError(
            f"path: expected none yet, or an empty folder that can be replaced; {target} is the "
            "working folder or a mount point"
        )
    _remove_left_behind(target)
    partial, descriptor = _claim(target, Path.mkdir, os.O_RDONLY)
    try:
        if target.is_dir():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        yield partial
        _sync_folder(partial)
        if os.name == "nt" and target.is_dir():  # not even an empty one is replaced there
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
            f"path: expected none yet, or an empty folder; {target} is there"
        ) from error


def _permissions(target: Path) -> int | None:
    """Those of a file that may be replaced; None if there is none."""
    if not target.exists():
        return None
    mode = existing_file("path", target).stat().st_mode
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"path: expected a regular file, or none yet; got {target}")
    if not os.access(target, os.W_OK):
        raise PermissionError(f"path: expected a file that may be written to; got {target}")
    return stat.S_IMODE(mode)


def _claim(target: Path, make: Callable[[Path], None], how: int) -> tuple[Path, int]:
    """Make something beside a target that is nobody else's, and lock it: its path, and its number.

    Between the two, another process can take it for left behind; then this tries again.
    """
    while True:
        partial = target.with_name(f"{target.name}.{secrets.token_hex(8)}.partial")
        make(partial)
        if fcntl is None and partial.is_dir():  # Windows opens no folders
            return partial, -1
        with suppress(FileNotFoundError):
            descriptor = _open_or_remove(partial, how)
            if _lock(descriptor) is not False and _is_at(partial, descriptor):
                return partial, descriptor
            os.close(descriptor)


def _open_or_remove(partial: Path, how: int) -> int:
    try:
        return os.open(partial, how)
    except OSError:
        with suppress(OSError):
            partial.rmdir() if partial.is_dir() else partial.unlink()
        raise


def flock(descriptor: int) -> bool:
    """Whether a file or folder is now locked, and by nobody else; an error if it cannot be."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(descriptor: int) -> bool | None:
    """The same; None where that cannot be done."""
    if fcntl is None:
        return None
    try:
        return flock(descriptor)
    except OSError:
        return None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_left_behind(target: Path) -> None:
    """Remove what killed writers of this name have left, and nothing that is locked."""
    left = re.compile(re.escape(target.name) + r"\.[0-9a-f]{16}\.partial")
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
    """Have the names in a folder on the disk, if it may be read."""
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
