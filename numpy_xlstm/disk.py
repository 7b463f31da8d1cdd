"""Files on disk: only regular files are read, and files are written atomically.

Saving NAME first writes a temporary file ``NAME.<16 hex digits>.partial`` next to it, and renames
that to NAME when all of it is on the disk. A writer that is killed leaves its temporary file, which
can be deleted.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from numpy_xlstm.errors import CheckpointError, OptionError


def checked_path(name: str, path: Any) -> Path:
    """Return a path, or raise :class:`OptionError` if the system does not allow it."""
    try:
        checked = Path(path)
        usable = b"\0" not in os.fsencode(checked)
    except (TypeError, ValueError):  # another type, or text that cannot be encoded
        usable = False
    if not usable:
        raise OptionError(f"{name}: expected a path, as a string or a Path; got {path!r:.80}")
    return checked


def open_regular(name: str, path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading, but no device or pipe, which could block.

    Raises
    ------
    CheckpointError, OSError
        If it does not exist, cannot be read, or is a folder, a device or a pipe.
    """
    file = checked_path(name, path)
    if file.is_dir():
        raise IsADirectoryError(f"{name}: expected a file; {path} is a directory")
    if not file.exists():
        raise FileNotFoundError(f"{name}: expected a file; {path} does not exist")
    if not file.is_file():
        raise CheckpointError(f"{file.name}: expected a regular file; got a device or a pipe")
    return file.open("rb", buffering=0)


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder and its subfolders, in the order of the names.

    Names that begin with a dot are left out, and links to folders are not followed. A folder that
    cannot be read raises :class:`OSError`.
    """
    files: list[Path] = []
    folders = [folder]
    while folders:
        for path in folders.pop().iterdir():
            if path.name.startswith("."):
                continue
            is_folder = path.is_dir() and not path.is_symlink()
            (folders if is_folder else files).append(path)
    return sorted(files)


def open_in_place(path: Path, how: int = 0) -> IO[bytes]:
    """Open a regular file to change it, and create it if ``how`` is ``os.O_CREAT``."""
    refuse_link(path)
    flags = how | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, os.O_RDWR | flags, 0o666)
    return os.fdopen(descriptor, "rb+", buffering=0)


def refuse_link(path: Path) -> None:
    """Raise :class:`CheckpointError` for a link, whose target would be changed, or for a pipe."""
    if not os.path.lexists(path):
        return
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        got = "a link or a pipe; replace it by a copy of the file"
        raise CheckpointError(f"{path.name}: expected a regular file; got {got}")


def read_regular(name: str, path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes, or raise an error."""
    with open_regular(name, path) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            expected = f"expected at most {most:,} bytes"
            raise CheckpointError(f"{Path(path).name}: {expected}; got {size:,}")
        # not more: files of /proc are of size 0, and some have no end; others grow
        with BufferedReader(file) as content:  # type: ignore[type-var]
            return content.read(size)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a temporary file to write, which replaces ``path`` when it is complete and on disk.

    The file can also be read. If ``path`` is a link, its target is replaced. The permissions of an
    existing file are kept; a read-only file is not replaced.
    """
    target = Path(os.path.realpath(path))
    exists, partial = target.exists(), _partial(target)
    if exists and not target.is_file():
        raise OptionError(f"path: expected a regular file or a new path; got {target}")
    if exists and not os.access(target, os.W_OK):
        raise PermissionError(f"path: expected a writable file; got {target}")
    try:
        with partial.open("x+b") as file:
            if exists:
                partial.chmod(stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync(target.parent)


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
        raise OptionError(
            f"path: expected a new path or an empty folder that can be replaced; {target} is the "
            "working folder or a mount point"
        )
    partial = _partial(target)
    partial.mkdir()
    try:
        yield partial
        for file in (*partial.rglob("*"), partial):
            _sync(file)
        if target.is_dir() and not any(target.iterdir()):
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
            target.rmdir()
        if target.exists():
            raise OptionError(f"path: expected a new path or an empty folder; {target} exists")
        partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(target.parent)


def _partial(target: Path) -> Path:
    """Return the path of a new temporary file or folder next to a target."""
    return target.with_name(f"{target.name[:40]}.{secrets.token_hex(8)}.partial")


def _sync(path: Path) -> None:
    """Flush a file or the names in a folder to the disk, except on Windows or if not readable."""
    if os.name == "nt":
        return
    with suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
