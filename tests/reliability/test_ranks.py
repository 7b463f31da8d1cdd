"""MPI ranks: if one dies, or was started with other arguments or texts, all end; a resume works.

``launch`` raises an error if a rank hangs.
"""

import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_ranks import TEXT, launch, log, params, with_mpi

MODEL = "--model=xlstm --dtype=float64 --batch-size=4 --window=12"
SMALL = "--blocks=2 --width=8 --heads=2"

DYING = """
import os, signal, sys
from numpy_xlstm.cli import main

if int(os.environ["PMI_RANK"]) == int(sys.argv[1]):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
sys.exit(main(sys.argv[3:]))
"""
"""Let one rank die without notice after some seconds."""


@pytest.mark.long
@with_mpi
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that kill")
def test_a_rank_that_dies(tmp_path: Path, trials: int) -> None:
    rng, text, deaths = np.random.default_rng(0), tmp_path / "text.txt", 0
    text.write_text(TEXT, encoding="utf-8")
    rest = "--tbptt --steps=20 --save-every=1 --validate-every=9 --sample-length=5"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    begin = ["train", str(text), *f"{MODEL} {SMALL} {rest}".split(), "--out"]
    began = time.monotonic()
    assert launch(2, "-m", "numpy_xlstm", *begin, str(whole)).returncode == 0
    seconds = time.monotonic() - began
    while deaths < trials:
        shutil.rmtree(parts, ignore_errors=True)
        code: int | None = None
        while code != 0:
            has_begun = (parts / "checkpoint.safetensors").exists()
            command = ["train", "--resume", str(parts)] if has_begun else [*begin, str(parts)]
            after = rng.uniform(0.3, 1) * seconds
            code = launch(2, "-c", DYING, str(rng.integers(2)), f"{after}", *command).returncode
            deaths += code != 0
        assert log(parts) == log(whole)
        for name, array in params(whole / "checkpoint.safetensors").items():
            np.testing.assert_array_equal(params(parts / "checkpoint.safetensors")[name], array)


UNEQUAL = """
import os, sys
from numpy_xlstm.cli import main
rank = os.environ["PMI_RANK"]
os.chdir(rank)
sys.exit(main([*sys.argv[2:], *(sys.argv[1].split() if rank == "1" else [])]))
"""
"""Run the command line in a folder for each rank, on rank 1 with more arguments."""

OTHERS = """
    --seed=5 --lr=0.5 --batch-size=6 --window=9 --steps=9 --width=16 --clip=0.5 --weight-decay=0.7
    --dropout=0.5 --validate-every=2 --accumulate=2 --minutes=7 --recompute --dtype=float32
    --out=elsewhere text config
    """.split()  # noqa: SIM905


@with_mpi
def test_ranks_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: int) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    chosen = [*range(len(OTHERS))] * trials if trials > 1 else rng.permutation(len(OTHERS))[:2]
    for other in (OTHERS[int(n)] for n in chosen):
        for rank in range(2):
            more, width = ("x" * rank * (other == "text"), 8 + 8 * rank)
            block = (
                f"mlstm_block:\n  mlstm:\n    num_heads: 2\nnum_blocks: 1\nembedding_dim: {width}"
            )
            Path(f"{rank}").mkdir(exist_ok=True)
            Path(f"{rank}/text.txt").write_text(TEXT + more, "utf-8")
            Path(f"{rank}/config.yaml").write_text(block, "utf-8")
        small = "--config=config.yaml" if other == "config" else SMALL
        command = f"train text.txt {MODEL} --steps=3 --sample-length=0 {small}".split()
        argument = other if other.startswith("--") else ""
        done = launch(2, "-c", UNEQUAL, argument, *command)
        assert done.returncode == 2, (other, done)
        assert "expected the same" in done.stderr, (other, done.stderr)
