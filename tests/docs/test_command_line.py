"""The commands on the page of the command line run in order."""

import re
import shlex
from pathlib import Path

import pytest

from numpy_xlstm.cli import COMMANDS, main

PAGE = (Path(__file__).parents[2] / "docs/command-line.md").read_text("utf-8")


def test_every_command_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("yaml", "ml_dtypes"):
        pytest.importorskip(package, reason=f"{package} (the extra 'cli') is not installed")
    monkeypatch.chdir(tmp_path)
    text = "The cat sat on the mat, and the dog beside it. " * 60
    for name in ("book.txt", "mine.txt"):
        Path(name).write_text(text, "utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.S)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) > 8
    for command in commands:
        program, *argv = shlex.split(command)
        assert program == "numpy-xlstm"
        assert main(argv) == 0, (command, capsys.readouterr().err)
        out = capsys.readouterr().out
        assert out or argv[0] == "convert", command


def test_every_command_is_on_the_page() -> None:
    for name in COMMANDS:
        assert f"| `{name}` |" in PAGE
