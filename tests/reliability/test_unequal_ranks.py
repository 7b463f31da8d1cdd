"""MPI ranks that were started with other arguments or texts all end, with one error."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.training.test_ranks import TEXT, launch, with_mpi

Record = Any

UNEQUAL = """
import os, sys
from numpy_xlstm.cli import main
sys.exit(main([*sys.argv[2:], *(sys.argv[1].split() if os.environ["PMI_RANK"] == "1" else [])]))
"""
"""Run the command line, on rank 1 with more arguments."""

OTHERS = [
    "--seed=5",
    "--lr=0.5",
    "--batch-size=6",
    "--window=9",
    "--steps=9",
    "--width=16",
    "--clip=0.5",
    "--weight-decay=0.7",
    "--dropout=0.5",
    "--validate-every=2",
    "--accumulate=2",
    "--minutes=7",
    "--recompute",
    "--dtype=float32",
    "--out=elsewhere",
    "text",
    "config",
]


def config(width: int) -> str:
    block = "mlstm_block:\n  mlstm:\n    num_heads: 2\n"
    return f"{block}num_blocks: 1\nembedding_dim: {width}\n"


@with_mpi
def test_ranks_that_differ(tmp_path: Path, trials: int, record_property: Record) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    base = "--model=xlstm --dtype=float64 --batch-size=4 --window=12 --steps=3 --sample-length=0"
    rng = np.random.default_rng(0)
    chosen = [*range(len(OTHERS))] * trials if trials > 1 else rng.permutation(len(OTHERS))[:3]
    for n in chosen:
        other, folder = OTHERS[int(n)], tmp_path / "{rank}"
        small = [] if other == "config" else ["--blocks=2", "--width=8", "--heads=2"]
        command = ["train", str(text), *base.split(), *small]
        program = UNEQUAL
        if other in ("text", "config"):  # the same name of another file on each rank
            program = (
                "import os, sys\nfrom numpy_xlstm.cli import main\n"
                f"os.chdir({str(tmp_path)!r} + '/' + os.environ['PMI_RANK'])\n"
                "sys.exit(main(sys.argv[2:]))\n"
            )
            for rank in range(2):
                folder = tmp_path / str(rank)
                folder.mkdir(exist_ok=True)
                (folder / "text.txt").write_text(TEXT + "x" * (rank * (other == "text")), "utf-8")
                (folder / "config.yaml").write_text(config(8 + 8 * rank), "utf-8")
            command[1] = "text.txt"
            command += ["--config=config.yaml"] if other == "config" else []
        done = launch(2, "-c", program, other, *command)
        assert done.returncode == 2, (other, done)
        assert "expected the same" in done.stderr, (other, done.stderr)
        record_property("ranks that differ", 1)
