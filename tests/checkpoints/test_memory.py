"""Memory and time for loading a checkpoint in eight files.

With ``--whole-checkpoint`` it has 1.3 GB, otherwise a tenth of that.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("Windows does not tell the peak of a process this way", allow_module_level=True)


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.checkpoints.measure", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_in_eight_files(
    dtype: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="ml_dtypes (checkpoints) is not installed")
    whole = request.config.getoption("--whole-checkpoint")
    size = 1_300_000_000 if whole else 130_000_000
    run("write", str(tmp_path / "model"), str(size), dtype)
    found = json.loads(run("read", str(tmp_path / "model")))
    print(found)
    assert found["files"] == 8
    assert found["bytes"] > 0.9 * size * (1 if dtype == "float32" else 2)
    assert found["memory"] < 1.2
    if whole and dtype == "float32":  # building a small model takes longer than reading it
        assert found["loading"] < 2 * found["reading"]
