"""Several MPI ranks, run with mpiexec, compute the same as one process."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.checkpoints import read_arrays
from numpy_xlstm.cli import main
from numpy_xlstm.errors import MissingExtraError, OptionError
from numpy_xlstm.training import AdamW, Batch, ranks, train_step
from tests.training.rank_program import STEPS, build, take_step
from tests.variants import assert_close

_beside_python = Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(_beside_python) if _beside_python.exists() else shutil.which("mpiexec")
with_mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="mpi4py and mpiexec (the extra 'mpi') are not installed",
)
later = partial(pytest.param, marks=pytest.mark.long)
TEXT = "".join(f"{n} times {n} is {n * n}. " for n in range(200))
TIMES = ("elapsed",)
HANGING = 1800
"""Seconds after which ranks are taken to hang, on any machine: they take about ten."""


def launch(count: int, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run Python on so many ranks, without compiled kernels, which each would have to load."""
    launched = [str(MPIEXEC), "-n", str(count), sys.executable, *command]
    return subprocess.run(
        launched,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGING,
        env=os.environ | {"NUMPY_XLSTM_COMPILED": "0"} | environment,
    )


@with_mpi
@pytest.mark.parametrize("count", [later(2), 3])
def test_ranks_do_what_one_process_does_and_the_same_every_time(count: int, tmp_path: Path) -> None:
    """All ranks write the results of each step into a file, and again at a second time."""
    done = launch(count, "-m", "tests.training.rank_program", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    found, again = (
        [dict(np.load(tmp_path / f"{time}.{rank}.npz")) for rank in range(count)]
        for time in ("first", "again")
    )
    for name, options in STEPS.items():
        model = build(options.get("dropout", 0.0))
        loss, norm, state = take_step(model, name, None)
        whole = {f"{name}.{n}": array for n, array in model.params.items()}
        together = {n: a for n, a in found[0].items() if n.startswith(f"{name}.param.")}
        for rank, one in enumerate(found):
            for key, array in together.items():
                np.testing.assert_array_equal(one[key], array)  # the ranks have the same model
            for key, array in again[rank].items():
                np.testing.assert_array_equal(one[key], array)  # and the same every time
        if "dropout" in options:
            assert found[0][f"{name}.loss"] != loss
            continue
        assert found[0][f"{name}.loss"] == pytest.approx(loss, rel=1e-13)
        assert found[0][f"{name}.norm"] == pytest.approx(norm, rel=1e-12)
        for n, array in model.params.items():
            assert_close(found[0][f"{name}.param.{n}"], array, rtol=1e-9)
        assert len(whole) == len(together)
        states = {key for key in found[0] if key.startswith(f"{name}.state")}
        assert len(states) == len(state)
        for key in states:
            rows = np.concatenate([one[key] for one in found])
            assert_close(rows, state[key.removeprefix(f"{name}.")], rtol=1e-12)


def train(count: int, *options: str) -> "subprocess.CompletedProcess[str]":
    return launch(count, "-m", "numpy_xlstm", "train", *options)


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    model = "--model=xlstm --blocks=2 --width=8 --heads=2 --dtype=float64 --dropout=0"
    rest = "--batch-size=3 --window=12 --tbptt --validate-every=3 --sample-length=5"
    return [str(text), *model.split(), *rest.split()]


def log(out: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


def params(file: Path) -> dict[str, Any]:
    return {n: a for n, a in read_arrays(file)[0].items() if not n.startswith("optimizer.")}


@pytest.mark.long
@with_mpi
def test_a_run_goes_on_with_another_number_of_ranks(options: list[str], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["train", *options, "--steps=9", "--out", str(whole)]) == 0
    done = train(2, *options, "--steps=9", "--out", str(parts))
    assert done.returncode == 0
    assert done.stdout.count("sample:") == done.stdout.count("xlstm model") == 1
    assert done.stderr.count("characters for training") == 1
    assert (parts / "best.safetensors").exists()
    for count, steps in ((3, 11), (1, 12), (2, 14)):
        assert train(count, "--resume", str(parts), f"--steps={steps}").returncode == 0
        assert main(["train", "--resume", str(whole), f"--steps={steps}"]) == 0
    for one, two in zip(log(whole), log(parts), strict=True):
        assert one == pytest.approx(two, rel=1e-6)
    for name, array in params(parts / "checkpoint.safetensors").items():
        assert_close(array, params(whole / "checkpoint.safetensors")[name], rtol=1e-5)


FAILING = """
import sys
from numpy_xlstm.cli import main
from numpy_xlstm.training import loop, ranks

original = loop.train_step

def step(model, optimizer, batch, **options):
    if optimizer.t == 3 and options["comm"].rank == int(sys.argv[1]):
        raise {error}
    return original(model, optimizer, batch, **options)

loop.train_step = step
sys.exit(main(sys.argv[2:]))
"""


@with_mpi
@pytest.mark.parametrize(
    ("rank", "error", "code", "message"),
    [
        (1, "MemoryError('no more')", 2, "numpy-xlstm: rank 1: error: no more"),
        later(0, "MemoryError('no more')", 2, "numpy-xlstm: error: no more"),
        later(
            1, "ZeroDivisionError('!')", 1, r"numpy-xlstm: rank 1: error: ZeroDivisionError\('!'\)"
        ),
        later(1, "KeyboardInterrupt", 130, "numpy-xlstm: rank 1: interrupted"),
    ],
)
def test_a_rank_that_fails_ends_the_run_with_its_error(
    rank: int, error: str, code: int, message: str, options: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    program = ["-c", FAILING.format(error=error), str(rank), "train", *options]
    done = launch(2, *program, "--steps=8", "--save-every=2", "--out", str(out))
    assert done.returncode == code
    assert re.fullmatch(message, done.stderr.splitlines()[-1])
    assert done.stderr.count("numpy-xlstm:") == 1
    assert done.stdout == ""
    files = {path.name for path in out.iterdir()}
    assert files == {"best.safetensors", "checkpoint.safetensors", "lock", "log.jsonl"}
    assert train(2, "--resume", str(out), "--steps=8").returncode == 0
    assert [entry["step"] for entry in log(out)] == list(range(1, 9))


@with_mpi
@pytest.mark.parametrize(
    ("more", "message"),
    [
        later("--batch-size=1", "ranks: expected at most 1, one per row of a batch; got 2"),
        ("--accumulate=2", "--accumulate: expected at most 3 parts, one per row; got 2 on each of"),
        later("--heads=3", "--heads: expected a divisor"),
    ],
)
def test_what_all_ranks_refuse_is_said_once(more: str, message: str, options: list[str]) -> None:
    done = train(2, *options, more)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"numpy-xlstm: error: {message}.*\n", done.stderr)


@pytest.mark.parametrize(
    ("more", "message"),
    [([], ranks.MISSING_EXTRA), (["--steps=none"], "argument --steps: expected a whole number")],
)
def test_ranks_that_have_not_met_leave_the_error_to_the_first(
    more: list[str],
    message: str,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    for name in ranks.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for rank in ("0", "1"):
        monkeypatch.setenv("PMI_RANK", rank)
        assert main(["train", *options, *more]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1 - int(rank))
        assert err.startswith(f"numpy-xlstm: error: {message}") or rank == "1"


def test_a_process_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ranks.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    assert ranks.launched_rank() is None
    assert ranks.world() is None
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    assert ranks.launched_rank() == 1
    for odd in ("", "one", "-1", "1.0", "\u00b2"):
        monkeypatch.setenv("PMI_RANK", odd)
        assert ranks.launched_rank() == 1
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", odd)
        assert ranks.launched_rank() is None
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    with pytest.raises(MissingExtraError, match="several ranks need the mpi extra: pip install"):
        ranks.world()


def test_rows_and_generators_of_ranks() -> None:
    class Rank:
        size = 3

        def __init__(self, rank: int) -> None:
            self.rank = rank

        Allreduce = allreduce = allgather = bcast = print

    comms: list[Any] = [Rank(rank) for rank in range(3)]
    for rows in (3, 4, 8, 2):
        found = [n for comm in comms for n in range(rows)[ranks.rank_rows(rows, comm)]]
        assert found == list(range(rows))
    rngs = [np.random.default_rng(0) for _ in comms]
    own = [ranks.rank_generator(*pair).random() for pair in zip(rngs, comms, strict=True)]
    assert len({*own}) == 3  # each rank drops other entries
    assert len({rng.random() for rng in rngs}) == 1  # and all have drawn as much
    ids = np.zeros((2, 5), int)
    model = build()
    with pytest.raises(OptionError, match=r"ranks: expected at most 2, .*; got 3"):
        train_step(model, AdamW(model.params), Batch(ids, ids), comm=comms[1])
