"""More than 300 damaged files: the error names the place, and needs little memory."""

import shutil
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import from_pretrained
from numpy_xlstm.errors import CheckpointError, NonFiniteError
from tests.checkpoints.build import write
from tests.checkpoints.damage import ANY, NPZ, SAFETENSORS, Damage
from tests.checkpoints.damage_folders import FOLDER, INDEX, gone, swapped

MEMORY = 3_000_000
"""Largest memory in bytes for the rejection of a file of about 30 kB, mostly for YAML."""


DAMAGES: dict[str, list[Damage]] = {
    "transformers": [*ANY, *SAFETENSORS, *FOLDER],
    "shards": [*ANY, *SAFETENSORS, *FOLDER, *INDEX],
    "xlstm-large": [*ANY, *SAFETENSORS, *FOLDER, gone, swapped],
    "xlstm": [*ANY, *SAFETENSORS, *FOLDER],
    "xlstm-cuda": [*ANY, *SAFETENSORS, *FOLDER],
    "torch": [*ANY, *SAFETENSORS],
    "npz": [*ANY, *NPZ],
    "safetensors": [*ANY, *SAFETENSORS],
}
CASES = [
    pytest.param(kind, damage, seed, id=f"{kind}-{n}-{seed}")
    for kind, damages in DAMAGES.items()
    for n, damage in enumerate(damages)
    for seed in range(2)
]


def test_there_are_enough() -> None:
    assert len(CASES) > 300


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives a checkpoint of a kind, which can be loaded; to be copied."""

    @cache
    def written(kind: str) -> Path:
        path = write(kind, tmp_path_factory.mktemp(kind))
        from_pretrained(path)
        return path

    return written


@pytest.mark.parametrize(("kind", "damage", "seed"), CASES)
def test_a_damaged_checkpoint(
    kind: str,
    damage: Damage,
    seed: int,
    whole: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / whole(kind).name
    shutil.copytree(whole(kind).parent, tmp_path, dirs_exist_ok=True)
    message = damage(path, np.random.default_rng(seed))
    before = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")}
    tracemalloc.start()
    try:
        with pytest.raises((CheckpointError, NonFiniteError), match=message):
            from_pretrained(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")} == before  # no code has run
