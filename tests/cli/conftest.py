"""The text that commands of a module train on."""

from pathlib import Path

import pytest


@pytest.fixture
def text_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Write the TEXT of the module to a file."""
    path = tmp_path / "text.txt"
    path.write_text(request.module.TEXT, encoding="utf-8")
    return path
