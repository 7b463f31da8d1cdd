"""Ports that are programs, run once for each case with a time limit."""

import errno
import os
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import IO, Any

from numpy_xlstm.conformance.case import Case
from numpy_xlstm.conformance.files import header, write_tensors
from numpy_xlstm.conformance.folder import checked_results
from numpy_xlstm.conformance.verify import Port, PortError, UnsupportedError
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import checked_path

PLACES = ("{in}", "{out}")
"""Placeholders in a command for the file to read and the file to write."""
UNSUPPORTED = 77
"""Exit status of a program that does not have what the case needs, as in the test suites of GNU."""
MOST_SAID = 10_000
"""Number of bytes read from the end of standard error."""
MOST_WRITTEN = 100_000_000
"""Number of bytes, in the folder of a program and on standard error, after which it is stopped.

Folders within that folder count. On Linux, so do files that a process of the program has removed
and keeps open. Files in other places do not count.
"""
SECONDS_BETWEEN_LOOKS = 0.05
MARK = "NUMPY_XLSTM_PORT"
"""Environment variable that marks a program and the processes that it starts."""
MOST_SHOWN = 300
"""Number of characters of standard error in a message; the middle of a longer text is omitted."""


def from_command(command: str, folder: str | os.PathLike[str], seconds: float) -> Port:
    """Make a port from a command.

    At the end of a case, the program and its process group are killed, and its folder is removed.
    On Linux, so are the processes that have left the group but keep the program's environment. A
    process that has left both is not noticed, nor are files that it writes in other places.

    Parameters
    ----------
    command : str
        Command such as ``./my_port {in} {out}``. It is split into words as in a shell, but run
        without a shell. With exit status 77 the program skips a case.
    folder : str or Path
        Folder for the files that the program reads and writes.
    seconds : float
        Time limit for each case.

    Returns
    -------
    callable
        Port for :func:`verify`.

    Examples
    --------
    >>> import sys
    >>> from pathlib import Path
    >>> from numpy_xlstm import conformance
    >>> port = conformance.from_command(f"{sys.executable} my_port.py {{in}} {{out}}", Path(), 10.0)
    >>> conformance.from_command("my_port", Path(), 10.0)
    Traceback (most recent call last):
    numpy_xlstm.errors.OptionError: ...
    """
    words, folder = _words(command), checked_path("folder", folder)

    def port(case: Case) -> Mapping[str, Any]:
        # a new folder, so that no earlier program has left a link there
        own = Path(mkdtemp(dir=folder))
        try:
            into, out = (own / f"{case.id}.{kind}.safetensors" for kind in ("in", "out"))
            write_tensors(into, case.inputs, header(case))
            places = dict(zip(PLACES, (str(into), str(out)), strict=True))
            _run([_filled(word, places) for word in words], seconds, own)
            _check_regular(out)
            results = checked_results(out, case)
        finally:
            _remove(own)
        if own.exists():
            raise PortError(f"the program has left files that cannot be removed in {own}")
        return results

    return port


def _check_regular(out: Path) -> None:
    try:
        mode = out.lstat().st_mode
    except FileNotFoundError:
        message = "the program has ended without an error, but has written no file"
        raise PortError(message) from None
    except OSError as error:
        raise PortError(f"no results: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        got = "a symbolic link" if stat.S_ISLNK(mode) else "another kind of file"
        raise PortError(f"expected a regular file as {{out}}; got {got}")


def _remove(folder: Path) -> None:
    """Remove a folder as far as possible, without following links.

    A folder inside is first moved to the top, because the path of a deep one may be too long.
    """
    rest, prefix, numbers = [folder], secrets.token_hex(16), count()
    with suppress(OSError):
        folder.chmod(stat.S_IRWXU)
        while rest:
            current = rest.pop()
            for path in list(current.iterdir()):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(stat.S_IRWXU)
                    rest.append(path.rename(folder / f"{prefix}{next(numbers)}"))
                else:
                    path.unlink()
            if current != folder:
                current.rmdir()
        folder.rmdir()


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise OptionError(f"--run: expected a command; got {command!r}: {error}") from None
    for place in PLACES:
        if not any(place in word for word in words):
            raise OptionError(f"--run: expected a command with {place}; got {command!r}")
    if shutil.which(words[0]) is None:
        got = f"{words[0]!r}, {_why_not(words[0])}"
        raise OptionError(f"--run: expected a program that can be run; got {got}")
    return words


def _why_not(program: str) -> str:
    """Describe why a program cannot be run."""
    there = Path(program).is_file()
    if "/" not in program and os.sep not in program:
        hint = f"; did you mean ./{program}?" if there else ""
        return f"which is not on the PATH{hint}"
    return "which is not marked as executable" if there else "no such file"


def _filled(word: str, places: Mapping[str, str]) -> str:
    for place, path in places.items():
        word = word.replace(place, path)
    return word


def _run(words: list[str], seconds: float, folder: Path) -> None:
    """Run a program; at the end or a limit, end all processes that it has started."""
    mark = f"{MARK}={secrets.token_hex(16)}"
    with TemporaryFile() as errors:  # a pipe stays open until all child processes close it
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
                env=os.environ | dict([mark.split("=")]),
            )
        except OSError as error:
            raise PortError(f"the program cannot be run: {error.strerror}") from error
        try:
            _wait(process, seconds, lambda: _written(errors, folder, mark))
        finally:
            _end(process, mark)
        errors.seek(-min(errors.seek(0, os.SEEK_END), MOST_SAID), os.SEEK_END)
        said = errors.read()
    if process.returncode == UNSUPPORTED:
        raise UnsupportedError
    if code := process.returncode:
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        parts = filter(None, (f"the program has ended with {how}", _gist(said)))
        raise PortError(": ".join(parts))


def _wait(process: "subprocess.Popen[bytes]", seconds: float, written: Callable[[], int]) -> None:
    """Wait for the end of a program, or raise an error if it exceeds a limit."""
    end = time.monotonic() + seconds
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0, min(SECONDS_BETWEEN_LOOKS, end - time.monotonic())))
        if written() > MOST_WRITTEN:
            raise PortError(f"stopped after it has written more than {MOST_WRITTEN:,} bytes")
        if process.returncode is not None:
            return
        if time.monotonic() >= end:
            raise PortError(f"stopped at the time limit of {seconds:g} s")


def _written(errors: IO[bytes], folder: Path, mark: str) -> int:
    """Return the number of bytes on standard error, and in files in or removed from a folder."""
    files = [os.fstat(errors.fileno()), *_files(folder)]
    for process in _marked(mark):
        with suppress(OSError):
            device = folder.stat().st_dev
            status = [path.stat() for path in (process / "fd").iterdir()]
            files += [file for file in status if not file.st_nlink and file.st_dev == device]
    return sum({(file.st_dev, file.st_ino): file.st_size for file in files}.values())


def _files(folder: Path) -> Iterator[os.stat_result]:
    folders = [str(folder)]
    while folders:
        try:
            for entry in list(os.scandir(folders.pop())):  # closed also after an error
                yield entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
        except OSError as error:  # it may have disappeared
            if error.errno == errno.ENAMETOOLONG:
                raise PortError("stopped after it has made a folder with too long a path") from None


def _gist(said: bytes) -> str:
    """Shorten standard error to one line with its start and end, one of which names the error."""
    text = " ".join(said.decode("utf-8", "replace").split())
    half = MOST_SHOWN // 2
    return text if len(text) <= MOST_SHOWN else f"{text[:half]} … {text[-half:]}"


def _end(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """Kill a program and the processes that it has started, if they still run."""
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    while processes := list(_marked(mark)):
        for path in processes:
            with suppress(ProcessLookupError):
                os.kill(int(path.name), signal.SIGKILL)


def _marked(mark: str) -> Iterator[Path]:
    """Yield the folders in ``/proc`` of processes that have the mark in their environment."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # of another user, or ended
            if mark.encode() in environment.read_bytes().split(b"\0"):
                yield environment.parent
