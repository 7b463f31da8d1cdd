"""Damaged files give the same numbers or one error, within limits of time and memory."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import from_pretrained
from tests.checkpoints.hostile import Row, change, rows
from tests.reliability import hostile
from tests.reliability.children import ask
from tests.reliability.loads import KINDS, Found, digest, look, model_of, place, save

RUN = "run"
"""A training directory, in addition to the formats of models."""

EXTRA = 100 << 20
"""Memory in bytes that a loader may use in addition to twice the size of the original."""

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""Characters that could control a terminal."""


@pytest.fixture(scope="module", params=[*KINDS, RUN])
def honest(
    request: pytest.FixtureRequest, training: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, str]:
    """A kind, its folder, and the digest of its numbers."""
    kind = request.param
    if kind == RUN:
        return kind, training, digest(from_pretrained(path_of(kind, training)))
    folder = tmp_path_factory.mktemp("honest")
    save(kind, folder, 1)
    return kind, folder, digest(model_of(kind, 1))


def path_of(kind: str, folder: Path) -> Path:
    return folder / RUN / "checkpoint.safetensors" if kind == RUN else place(kind, folder)


def examine(kind: str, folder: Path) -> Found:
    """Load the content of a folder in a separate process; resume it if it is a training."""
    path = path_of(kind, folder)
    commands = [["info", str(path)]]
    if kind == RUN:
        commands.append(["train", "--resume", str(path.parent), "--steps", "3"])
    answer = ask(look, path, *commands)
    assert answer.code == 0, answer  # neither a crash nor a hang
    found: Found = answer.said
    return found


def check(found: Found, size: int, numbers: str | None, *, path_level: bool = False) -> None:
    """Check that the outcome is these numbers (any numbers for None) or an error of the package.

    For changes of paths, an error of the operating system is also accepted.
    """
    assert found.ok or (path_level and found.result == "OSError"), found.result
    assert found.error or numbers in (None, found.result), found.result
    assert found.memory <= 2 * size + EXTRA, found
    assert CONTROL.search(found.said) is None, found.said


def files_of(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.rglob("*") if p.is_file() and p.name not in ("text.txt", "lock")
    )


@pytest.mark.parametrize("others", [False, True], ids=["ours", "others"])
def test_files_that_are_changed_at_random(
    others: bool, honest: tuple[str, Path, str], tmp_path: Path, trials: int
) -> None:
    """Files of other packages have no checksums, so that changed numbers are not detected."""
    kind, folder, numbers = honest
    size = sum(path.stat().st_size for path in files_of(folder))
    own = kind in ("safetensors", RUN)
    if own and others:
        pytest.skip("our own formats are written by nobody else")
    for n in range(6 * trials):
        shutil.rmtree(tmp_path)
        shutil.copytree(folder, tmp_path)
        rng = np.random.default_rng([n, len(kind)])
        files = files_of(tmp_path)
        file = files[rng.integers(len(files))]
        if others:
            hostile.without_checksum(file)
        hostile.change(file, own and file.suffix == ".safetensors", n, rng)
        check(examine(kind, tmp_path), size, None if others else numbers)


PATHS = [row for row in rows() if row.view == "path" and "*.safetensors" in row.scopes]


@pytest.mark.parametrize(
    "name", ["checkpoint.safetensors", "best.safetensors", "log.jsonl", "lock"]
)
@pytest.mark.parametrize("row", PATHS, ids=lambda row: row.name)
def test_paths_in_a_training_directory(name: str, row: Row, training: Path, tmp_path: Path) -> None:
    shutil.copytree(training, tmp_path, dirs_exist_ok=True)
    size = (tmp_path / RUN / name).stat().st_size
    change(tmp_path / RUN, row, name, 0)
    check(examine(RUN, tmp_path), size, None, path_level=True)
