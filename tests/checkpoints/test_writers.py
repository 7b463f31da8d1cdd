"""Files and folders with readers, with links, and with permissions.

``tests/reliability`` has writers in several processes, and failures of every system call.
"""

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, open_pretrained, save_pretrained
from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.disk import replacing
from numpy_xlstm.errors import OptionError
from tests.checkpoints.build import large

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has other locks and permissions")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@posix
def test_what_is_being_read_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    models = [LSTM(3, 4, rng=np.random.default_rng(seed)) for seed in (0, 1)]
    save_pretrained(models[0], path)
    opened = open_pretrained(path)
    save_pretrained(models[1], path)
    for name, array in opened.load().params.items():
        np.testing.assert_array_equal(array, models[0].params[name])


@posix
def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    link, target = tmp_path / "run" / "a.safetensors", tmp_path / "disk" / "b.safetensors"
    link.symlink_to(Path("..") / "disk" / "b.safetensors")
    for number in (1, 2):  # it leads nowhere first
        write_arrays(link, {"x": np.full(3, number)}, {})
        assert link.is_symlink()
        assert read_arrays(target)[0]["x"][0] == number
    assert (names(tmp_path / "run"), names(tmp_path / "disk")) == (
        ["a.safetensors"],
        ["b.safetensors"],
    )
    folder = tmp_path / "model"
    (tmp_path / "empty").mkdir()
    folder.symlink_to("empty")
    save_pretrained(large(), folder)
    assert folder.is_symlink()
    assert "config.json" in names(tmp_path / "empty")


@posix
def test_permissions_are_kept(tmp_path: Path) -> None:
    path, before = tmp_path / "a.safetensors", os.umask(0o027)
    try:
        write_arrays(path, {}, {})
        save_pretrained(large(), tmp_path / "model")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o750
    for mode in (0o600, 0o666, 0o755):
        path.chmod(mode)
        write_arrays(path, {}, {})
        assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_a_file_that_nobody_else_may_read_never_is_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch(0o600)
    with replacing(path):
        (partial,) = tmp_path.glob("a.*.partial")
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600


@posix
@pytest.mark.skipif(os.name == "posix" and os.getuid() == 0, reason="root may write to all files")
def test_a_file_that_must_not_be_written_to(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, {}, {"old": 1})
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="path: expected a writable file"):
        write_arrays(path, {}, {"new": 1})
    assert read_arrays(path)[1] == {"old": 1}


@posix
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    os.mkfifo(tmp_path / "b.safetensors")
    for name in names(tmp_path):
        with pytest.raises(OptionError, match="path: expected a regular file or a new path"):
            write_arrays(tmp_path / name, {}, {})
    assert names(tmp_path) == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize("kind", ["working folder", "mount point"])
def test_a_folder_that_cannot_be_replaced_stays(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    path.mkdir()
    before = path.stat().st_ino
    if kind == "working folder":
        monkeypatch.chdir(path)
        path = Path()
    else:
        monkeypatch.setattr("os.path.ismount", lambda found: Path(found) == path)
    with pytest.raises(OptionError, match=r"folder that can be replaced; .*model is the work"):
        save_pretrained(large(), path)
    assert path.stat().st_ino == before
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == []


@posix
def test_a_folder_that_cannot_be_read_can_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.open

    def refusing(path: Any, flags: int, *mode: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied")
        return original(path, flags, *mode)

    monkeypatch.setattr("os.open", refusing)
    write_arrays(tmp_path / "a.safetensors", {}, {"step": 7})
    monkeypatch.undo()
    assert read_arrays(tmp_path / "a.safetensors") == ({}, {"step": 7})
    assert names(tmp_path) == ["a.safetensors"]
