"""If several processes write the same path at once, the result is complete and from one of them."""

import re
from pathlib import Path
from typing import Any

import pytest

from numpy_xlstm import save_pretrained
from numpy_xlstm.errors import OptionError
from tests.cli.test_resume import assert_same
from tests.reliability.children import CONTEXT, LIMIT, ask, silent, start
from tests.reliability.loads import FILES, KINDS, WRITERS, digest_of, model_of, place, stored
from tests.reliability.test_kills import LONG, SHORT, arguments

REFUSED = "one that no other process trains in; .* in use by|one without a training"


def save_in_rounds(kind: str, folders: list[Path], number: int, barrier: Any, queue: Any) -> None:
    """Save a model into each folder, at the same time as other processes; return failures."""
    model, errors = model_of(kind, number), []
    for folder in folders:
        barrier.wait(LIMIT)
        try:
            save_pretrained(model, place(kind, folder), **KINDS[kind][2])
        except (OptionError, OSError) as error:
            errors.append(f"{type(error).__name__}: {error}")
        barrier.wait(LIMIT)
    queue.put(errors)


@pytest.mark.parametrize("savers", [2, 4])
@pytest.mark.parametrize("kind", WRITERS)
def test_several_save_at_once(kind: str, savers: int, tmp_path: Path, trials: int) -> None:
    rounds = 20 * trials if savers == 2 else 5 * trials
    folders = [tmp_path / str(n // 5 if kind in FILES else n) for n in range(rounds)]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    barrier, queue = CONTEXT.Barrier(savers + 1), CONTEXT.Queue()
    numbers = range(1, savers + 1)
    children = [start(save_in_rounds, kind, folders, n, barrier, queue) for n in numbers]
    whole = [digest_of(kind, number) for number in numbers]
    for folder in folders:
        barrier.wait(LIMIT)
        if place(kind, folder).exists():
            assert stored(kind, folder) in whole
        barrier.wait(LIMIT)
        assert stored(kind, folder) in whole
        assert [path.name for path in folder.iterdir()] == [
            place(kind, folder).name
        ]  # no temporary files remain
    errors = [error for _ in children for error in queue.get(timeout=LIMIT)]
    assert len(errors) == (0 if kind in FILES else (savers - 1) * rounds), set(errors)
    for child in children:
        child.join(LIMIT)


def commands(folder: Path, out: str) -> list[list[str]]:
    """Start a training, and resume it."""
    begin = arguments("mLSTM", folder, out, SHORT)
    return [begin, ["train", "--resume", begin[-1], "--steps", LONG]]


def test_several_begin_one_training_and_go_on_with_it(tmp_path: Path, trials: int) -> None:
    for command in commands(tmp_path, "whole"):
        assert ask(silent, command).code == 0
    refused = 0
    for n in range(trials):
        for command in commands(tmp_path, f"parts{n}"):
            said = [tmp_path / f"said{child}" for child in range(2)]
            children = [start(silent, command, path) for path in said]
            for child, path in zip(children, said, strict=True):
                child.join(LIMIT)
                if child.exitcode:
                    text = " ".join(path.read_text("utf-8").split())
                    assert re.search(REFUSED, text)
                    refused += 1
                path.unlink()
            assert 0 in [child.exitcode for child in children]
        assert_same(tmp_path / f"parts{n}", tmp_path / "whole")
    assert refused
