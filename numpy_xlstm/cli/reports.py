"""Report files of commands."""

import os
from pathlib import Path

from numpy_xlstm.disk import write_text
from numpy_xlstm.errors import OptionError


def check_writable(option: str, file: Path | None) -> None:
    """Raise an error before the work if a file cannot be written."""
    if file is None:
        return
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option}: expected an existing folder; got {file}")
    if file.is_dir():
        raise IsADirectoryError(f"{option}: expected a file; got the folder {file}")
    if Path(os.path.realpath(file)).is_fifo():  # opening it would wait for a reader
        raise OptionError(f"{option}: expected a file or /dev/stdout; got the named pipe {file}")
    file.open("a", encoding="utf-8").close()


def write_report(file: Path, text: str) -> None:
    """Write a text, atomically unless the path is a device or pipe such as /dev/stdout."""
    if file.exists() and not file.is_file():
        file.write_text(text, encoding="utf-8")
    else:
        write_text(file, text)
