"""A run changes only files of its own, and a folder has one run at a time."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.training import Run
from tests.reliability.children import ask, silent
from tests.reliability.loads import begun

if sys.platform == "win32":
    pytest.skip("Windows has other links and no fork", allow_module_level=True)

FILES = "checkpoint.safetensors", "best.safetensors", "log.jsonl", "loss.svg", "lock"
Link = Callable[[Path, Path], None]


def symbolic(file: Path, target: Path) -> None:
    file.symlink_to(target)


def relative(file: Path, target: Path) -> None:
    file.symlink_to(os.path.relpath(target, file.parent))


def through_another(file: Path, target: Path) -> None:
    between = target.with_name(f"between-{file.name}")
    between.unlink(missing_ok=True)
    between.symlink_to(target)
    file.symlink_to(between)


def hard(file: Path, target: Path) -> None:
    file.hardlink_to(target)


LINKS: list[Link] = [symbolic, relative, through_another, hard]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mode) for p in folder.iterdir() if p.is_file()}


def test_links_in_a_run_folder(training: Path, tmp_path: Path, trials: int) -> None:
    rng = np.random.default_rng(0)
    for n in range(13 * trials):
        folder, others = tmp_path / f"{n}", tmp_path / f"{n}-others"
        shutil.copytree(training, folder)
        (folder / "run" / "loss.svg").touch()
        others.mkdir()
        names = rng.permutation(FILES)[: rng.integers(1, 3)]
        for name in map(str, names):
            file, link = folder / "run" / name, LINKS[int(rng.integers(len(LINKS)))]
            target = others / name
            shutil.move(file, target)
            if link is symbolic and rng.random() < 0.2 and name != "checkpoint.safetensors":
                target.unlink()  # a link to nothing
            link(file, target)
        before, said = contents(others), tmp_path / "said"
        command = ["train", "--resume", str(folder / "run"), str(folder / "text.txt")]
        answer = ask(silent, [*command, "--steps", "3"], said)
        assert contents(others) == before
        text = said.read_text("utf-8")
        assert answer.code == 2, text
        assert any(f"{name}: expected a regular file" in text for name in names)
        said.unlink()
        shutil.rmtree(folder)


FOREIGN = [*FILES[1:], "notes.txt", "checkpoint.safetensors.partial", ".hidden", "folder"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_of_somebody_else(name: str, tmp_path: Path) -> None:
    if name == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("somebody's")
    before = contents(tmp_path)
    with pytest.raises(OptionError, match=r"expected a new or an empty folder; got .* which con"):
        Run.begin(tmp_path, begun())
    assert contents(tmp_path) == before


def test_what_a_killed_begin_leaves_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").touch()
    (tmp_path / "lock").write_text("process 12 on a")
    (tmp_path / "checkpoint.safetensors.0123.partial").touch()
    assert Run.begin(tmp_path, begun()).checkpoint.exists()


def test_threads_of_one_process(tmp_path: Path) -> None:
    runs: list[Any] = []
    Run.begin(tmp_path, begun())

    def resume() -> None:
        try:
            runs.append(Run.resume(tmp_path))
        except (OptionError, CheckpointError) as error:
            runs.append(str(error))

    threads = [Thread(target=resume) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(run, Run) for run in runs) == 1
