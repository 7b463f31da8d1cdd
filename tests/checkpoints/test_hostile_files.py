"""Each change of ``hostile.txt`` is one error, in little memory, and runs no code.

``test_linear.py`` tests the time.
"""

import re
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from numpy_xlstm import from_pretrained
from numpy_xlstm.errors import CheckpointError, NonFiniteError
from tests.checkpoints.build import write
from tests.checkpoints.hostile import Row, change, rows

ROWS = [*rows()]
LEAST = 3_000_000
"""Memory in bytes for the rejection of a small file."""


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives a checkpoint of a kind, which can be loaded."""

    @cache
    def written(kind: str) -> Path:
        path = write(kind, tmp_path_factory.mktemp(kind))
        from_pretrained(path)
        return path

    return written


def loaded(path: Path) -> tuple[int, Exception | None]:
    """Load a file, and return the peak of the memory in bytes, and the error."""
    error: Exception | None = None
    tracemalloc.start()
    try:
        from_pretrained(path)
    except (CheckpointError, NonFiniteError, OSError) as raised:
        error = raised
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return memory, error


def outcome(path: Path, size: int) -> tuple[str, bool]:
    """Load a changed file, and return its error and whether the error is of the right class.

    A load that seems to need too much memory is repeated once: what is imported or computed at the
    first use, or by another thread, is not needed again.
    """
    limit = min(LEAST + 20 * size, 2 * size + 100 * 2**20)
    memory, error = loaded(path)
    if memory > limit:
        memory, error = loaded(path)
    if memory > limit:
        return f"{memory} bytes of memory for {size} bytes", False
    return str(error), error is not None


def problems(row: Row, original: Callable[[str], Path], folder: Path) -> Iterator[str]:
    """Change checkpoints of all kinds by a row, and yield those without the error of the row."""
    for seed, (kind, pattern) in enumerate(row.cases()):
        path = folder / f"{kind}-{pattern}" / original(kind).name
        shutil.copytree(original(kind).parent, path.parent)
        message = change(path, row, pattern, seed)
        before = {p: p.lstat() for p in folder.rglob("*")}
        size = max(file.st_size for file in before.values())
        got, right = outcome(path, size if row.view != "path" else 0)
        if not right or not re.search(message, got):
            yield f"{kind} {pattern}\n    expected {message}\n    got {got}"
        after = {p: p.lstat().st_mtime_ns for p in folder.rglob("*")}
        if after != {p: file.st_mtime_ns for p, file in before.items()}:
            yield f"{kind} {pattern}: a file has changed"
        shutil.rmtree(path.parent)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.view}-{row.name}".replace(" ", "-"))
def test_refused(
    row: Row, original: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [*row.cases()]
    found = [*problems(row, original, tmp_path)]
    assert not found, "\n".join(found)
