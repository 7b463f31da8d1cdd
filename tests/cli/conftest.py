"""A working folder of its own for every test, and the text that commands of a module train on."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands in a new folder, so that names of files are short."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text_file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Write the TEXT of the module to a file, and return its name."""
    (tmp_path / "text.txt").write_text(request.module.TEXT, encoding="utf-8")
    return "text.txt"
