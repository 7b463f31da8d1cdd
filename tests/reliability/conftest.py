"""The mark of these tests, and a run that they attack."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.reliability)


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and its run of two steps, to be copied."""
    from tests.cli.test_resume import CELL, SMALL, TEXT
    from tests.reliability.children import ask, silent  # which Windows cannot import

    folder = tmp_path_factory.mktemp("training")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    options = ["--tbptt", "--steps=2", "--sample-length=3", "--validate-every=1"]
    command = ["train", str(folder / "text.txt"), *SMALL, *CELL, *options]
    assert ask(silent, [*command, "--out", str(folder / "run")]).code == 0
    return folder
