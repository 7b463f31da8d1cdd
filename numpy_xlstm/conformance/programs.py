"""A port that is a program: run once for each case, with a time limit."""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy_xlstm.conformance.case import Case
from numpy_xlstm.conformance.files import header, write_tensors
from numpy_xlstm.conformance.verify import Port, PortError, checked_results
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import checked_path

PLACES = ("{in}", "{out}")
"""What stands in a command for the file to read and the file to write."""
MOST_SAID = 10_000
"""How many of the last bytes of its errors are read."""
MOST_SHOWN = 300
"""How many characters of them are shown: of more, the first and the last."""


def from_command(command: str, folder: str | os.PathLike[str], seconds: float) -> Port:
    """The port that is a program.

    Parameters
    ----------
    command : str
        Such as ``./my_port {in} {out}``, split into words as a shell does; no shell is run.
    folder : str or Path
        Where the files are put that it reads and writes.
    seconds : float
        How long it may take for a case.

    Returns
    -------
    callable
        For :func:`verify`.

    Raises
    ------
    OptionError
        If ``{in}`` or ``{out}`` is missing, or there is no such program.

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
        into, out = (folder / f"{case.id}.{kind}.safetensors" for kind in ("in", "out"))
        write_tensors(into, case.inputs, header(case))
        out.unlink(missing_ok=True)
        places = dict(zip(PLACES, (str(into), str(out)), strict=True))
        try:
            _run([_filled(word, places) for word in words], seconds)
            if not out.exists():
                raise PortError("the program has ended well and written no file")
            return checked_results(out)
        finally:
            into.unlink(missing_ok=True)
            out.unlink(missing_ok=True)

    return port


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
    """Why it is none that can be run."""
    there = Path(program).is_file()
    if "/" not in program and os.sep not in program:
        hint = f"; did you mean ./{program}?" if there else ""
        return f"which is not on the PATH{hint}"
    return "which is not marked as executable" if there else "no such file"


def _filled(word: str, places: Mapping[str, str]) -> str:
    for place, path in places.items():
        word = word.replace(place, path)
    return word


def _run(words: list[str], seconds: float) -> None:
    """Run a program to its end; with the time limit all that it has started ends too."""
    with tempfile.TemporaryFile() as errors:  # a pipe would be waited for until all have closed it
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise PortError(f"the program cannot be run: {error.strerror}") from error
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise PortError(f"stopped at the time limit of {seconds:g} s") from None
        finally:
            _end(process)
        errors.seek(-min(errors.seek(0, os.SEEK_END), MOST_SAID), os.SEEK_END)
        said = errors.read()
    if code := process.returncode:
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        parts = filter(None, (f"the program has ended with {how}", _gist(said)))
        raise PortError(": ".join(parts))


def _gist(said: bytes) -> str:
    """What a program said, in one line: some name the error first, and some last."""
    text = " ".join(said.decode("utf-8", "replace").split())
    half = MOST_SHOWN // 2
    return text if len(text) <= MOST_SHOWN else f"{text[:half]} … {text[-half:]}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what is left of a program, and of what it has started."""
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
