"""Damaged files give the same numbers or one error, within limits of time and memory."""

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_xlstm.checkpoints import load_checkpoint
from numpy_xlstm.errors import CheckpointError
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
        return kind, training, digest(load_checkpoint(path_of(kind, training)).model)
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


def changes_of(file: Path, own: bool) -> st.SearchStrategy[hostile.Change]:
    """Return the changes for a file with this name."""
    if file.suffix in (".json", ".yaml"):
        return st.one_of(hostile.bytes_changes, hostile.config_changes)
    if own:
        sealed = st.one_of(hostile.metadata_changes, hostile.array_changes)
        return st.one_of(hostile.bytes_changes, sealed)
    if file.suffix == ".safetensors":
        return st.one_of(hostile.bytes_changes, hostile.header_changes)
    return hostile.bytes_changes


@pytest.mark.parametrize("others", [False, True], ids=["ours", "others"])
def test_files_that_hypothesis_draws(
    others: bool, honest: tuple[str, Path, str], tmp_path: Path, trials: int
) -> None:
    """Files of other packages have no checksums, so that changed numbers are not detected."""
    kind, folder, numbers = honest
    size = sum(path.stat().st_size for path in files_of(folder))
    own = kind in ("safetensors", RUN)
    if own and others:
        pytest.skip("our own formats are written by nobody else")

    @settings(max_examples=10 * trials)
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        shutil.rmtree(tmp_path)
        shutil.copytree(folder, tmp_path)
        file = data.draw(st.sampled_from(files_of(tmp_path)).map(lambda f: f.relative_to(tmp_path)))
        if others:
            hostile.without_checksum(tmp_path / file)
        change = data.draw(changes_of(file, own and file.suffix == ".safetensors"))
        try:
            change(tmp_path / file)
        except CheckpointError:  # the change cannot be written
            return
        found = examine(kind, tmp_path)
        check(found, size, None if others else numbers)

    attack()


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
