"""On a full, broken or read-only disk, saving raises an error and keeps only the old file."""

import errno
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import save_pretrained
from numpy_xlstm.cli import main
from tests.cli.test_resume import assert_same
from tests.reliability.children import ask, silent
from tests.reliability.loads import (
    FILES,
    KINDS,
    WRITERS,
    digest_of,
    model_of,
    place,
    save,
    stored,
)
from tests.reliability.system_calls import WRITES, at_call, fail, positions
from tests.reliability.test_kills import EVERY, SHORT, arguments, finish, prepared

ERRORS = errno.ENOSPC, errno.EIO, errno.EDQUOT


def save_in(kind: str, folder: Path, number: int, call: int, error: int) -> list[str]:
    """Save while a system call fails; return the names of all calls."""
    model = model_of(kind, number)
    with at_call(call, fail(error), WRITES) as seen:
        save_pretrained(model, place(kind, folder), **KINDS[kind][2])
    return seen


def check_old(kind: str, folder: Path, *, or_new: bool) -> None:
    """Check that only the old model is there, or the new one if the sync of its folder failed."""
    path = place(kind, folder)
    assert [entry.name for entry in folder.iterdir()] == [path.name] * path.exists()
    assert path.exists() or kind not in FILES
    if path.exists():
        assert stored(kind, folder) in {digest_of(kind, 1 + new) for new in range(1 + or_new)}


@pytest.mark.parametrize("kind", WRITERS)
def test_calls_of_a_save_fail(kind: str, tmp_path: Path, trials: int) -> None:
    seen = save_in(kind, prepared(kind, tmp_path / "whole"), 2, EVERY, 0)
    calls = positions(seen, 2 * trials, WRITERS.index(kind))
    for call in calls:
        folder, error = prepared(kind, tmp_path / "failing"), ERRORS[call % len(ERRORS)]
        with pytest.raises(OSError, match="Errno") as caught:
            save_in(kind, folder, 2, call, error)
        assert caught.value.errno == error
        check_old(kind, folder, or_new=True)


def failing_training(argv: list[str], call: int, error: int) -> tuple[int, int, str]:
    """Train while a system call fails; return the exit code, the number of calls and the errors."""
    errors = io.StringIO()
    with (
        at_call(call, fail(error), WRITES) as seen,
        redirect_stderr(errors),
        redirect_stdout(io.StringIO()),
    ):
        code = main(argv)
    return code, len(seen), errors.getvalue()


def test_calls_of_a_training_fail(tmp_path: Path, trials: int) -> None:
    assert ask(silent, arguments("sLSTM", tmp_path, "whole", SHORT)).code == 0
    command, parts = arguments("sLSTM", tmp_path, "parts", SHORT), tmp_path / "parts"
    rng = np.random.default_rng(0)
    for call in rng.integers(1, 400, 3 * trials):
        shutil.rmtree(parts, ignore_errors=True)
        error = ERRORS[call % len(ERRORS)]
        code, seen, errors = ask(failing_training, command, int(call), error).said
        assert code == 2 or (code == 0 and seen < call)
        if code:
            assert errors.splitlines()[-1].startswith("numpy-xlstm: error: ")
        finish(command)
        assert_same(parts, tmp_path / "whole")


@pytest.mark.parametrize("kind", [*WRITERS, "vectors"])
def test_what_takes_a_place_is_on_the_disk_first(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are synced, so that a power failure leaves the old or the new model, like a kill."""
    synced: dict[int, int] = {}
    fsync, replace = os.fsync, os.replace

    def syncing(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_mtime_ns

    def replacing(source: Any, target: Any, **options: Any) -> None:
        paths = [Path(source), *Path(source).rglob("*")]
        for status in (path.stat() for path in paths):
            assert synced.get(status.st_ino) == status.st_mtime_ns
        replace(source, target, **options)
        synced.pop(Path(target).parent.stat().st_ino, None)

    monkeypatch.setattr(os, "fsync", syncing)
    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, replacing)
    folder = prepared(kind, tmp_path / "folder")
    if kind == "vectors":
        assert main(["vectors", str(folder / "set"), "--small", "--subject", "lstm.step"]) == 0
    else:
        save(kind, folder, 2)
    assert folder.stat().st_ino in synced


def refused(kind: str, folder: Path, limit: int | None = None) -> str:
    """Save, as nobody or with a limit for the size of files, and return the name of the error."""
    import resource

    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    elif os.geteuid() == 0 and not folder.stat().st_mode & 0o200:
        os.setuid(65534)
    try:
        save(kind, folder, 2)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return "none"


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_may_not_be_so_long(kind: str, tmp_path: Path) -> None:
    for size in (0, 100, 700):
        folder = prepared(kind, tmp_path / "folder")
        assert ask(refused, kind, folder, size).said == "EFBIG"
        check_old(kind, folder, or_new=False)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_read_only_folder(kind: str, tmp_path: Path) -> None:
    folder = prepared(kind, tmp_path / "folder")
    for path in (folder, *folder.rglob("*"), *folder.parents[:3]):
        path.chmod(0o555 if path in (folder, *folder.rglob("*")) else 0o755)
    assert ask(refused, kind, folder).said in ("EACCES", "PermissionError")
    folder.chmod(0o755)
    check_old(kind, folder, or_new=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs to be root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk(kind: str, small_disk: Path) -> None:
    folder = prepared(kind, small_disk / "folder")
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    assert ask(refused, kind, folder).said == "ENOSPC"
    check_old(kind, folder, or_new=False)
    filler.unlink()
    save(kind, folder, 3)
    assert stored(kind, folder) == digest_of(kind, 3)
