"""Report files of commands."""

from pathlib import Path

from numpy_xlstm.disk import write_text


def check_writable(option: str, file: Path | None) -> None:
    """Raise an error before the work if a file cannot be written."""
    if file is None:
        return
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option}: expected an existing folder; got {file}")
    if file.is_dir():
        raise IsADirectoryError(f"{option}: expected a file; got the folder {file}")
    file.open("a", encoding="utf-8").close()


def write_report(file: Path, text: str) -> None:
    """Write a text, atomically unless the path is a device or pipe such as /dev/stdout."""
    if file.exists() and not file.is_file():
        file.write_text(text, encoding="utf-8")
    else:
        write_text(file, text)
