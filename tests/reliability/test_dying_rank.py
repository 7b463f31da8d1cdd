"""Two MPI ranks, one of which dies at a random moment: the other ends too, and a resume works.

``launch`` raises an error if the other rank hangs.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.test_ranks import TEXT, launch, log, params, with_mpi

Record = Any

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
def test_a_rank_that_dies(tmp_path: Path, trials: int, record_property: Record) -> None:
    rng, text, deaths = np.random.default_rng(0), tmp_path / "text.txt", 0
    text.write_text(TEXT, encoding="utf-8")
    model = "--model=xlstm --blocks=2 --width=8 --heads=2 --dtype=float64 --tbptt"
    rest = (
        "--batch-size=4 --window=12 --steps=20 --save-every=1 --validate-every=9 --sample-length=5"
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    begin = ["train", str(text), *model.split(), *rest.split(), "--out"]
    began = time.monotonic()
    assert launch(2, "-m", "numpy_xlstm", *begin, str(whole)).returncode == 0
    seconds = time.monotonic() - began
    while deaths < trials:
        shutil.rmtree(parts, ignore_errors=True)
        code: int | None = None
        while code != 0:
            there = (parts / "checkpoint.safetensors").exists()
            command = ["train", "--resume", str(parts)] if there else [*begin, str(parts)]
            after = rng.uniform(0.3, 1) * seconds
            code = launch(2, "-c", DYING, str(rng.integers(2)), f"{after}", *command).returncode
            deaths += code != 0
        assert log(parts) == log(whole)
        for name, array in params(whole / "checkpoint.safetensors").items():
            np.testing.assert_array_equal(params(parts / "checkpoint.safetensors")[name], array)
    record_property("deaths of one of two ranks", deaths)
