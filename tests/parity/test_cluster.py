"""Write every script of ``docs/cluster.md``, and run every command on the page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.test_ranks import with_mpi

for package in ("torch", "xlstm", "dacite", "yaml", "safetensors", "rich"):
    pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)

PAGE = (Path(__file__).parents[2] / "docs/cluster.md").read_text("utf-8")
PAPER, LARGE = PAGE.split("## xLSTM Large")
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(commands: list[str], folder: Path) -> str:
    """Run commands in a folder that has the scripts of the page; return what they print."""
    for script in blocks("py", PAGE):
        found = re.match(r"# (\w+\.py)\n", script)
        assert found, script
        (folder / found[1]).write_text(script, "utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    printed = ""
    for command in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=os.environ | ONE_THREAD | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    return printed


def assert_went_around(printed: str) -> None:
    """Compare losses before and after the transfer, after twenty steps, and after the return."""
    left, arrived, trained, back = map(float, re.findall(r"loss (?:is )?(\d+\.\d{12})", printed))
    assert arrived == pytest.approx(left, rel=1e-6)
    assert back == pytest.approx(trained, rel=1e-6)
    assert trained < left - 0.1
    assert len(re.findall(r"^│ steps +│ +(20|60)", printed, re.MULTILINE)) == 2


def test_every_block_is_one_of_these() -> None:
    fences = re.findall(r"^```(\w*)$", PAGE, re.MULTILINE)
    assert set(fences) == {"sh", "py", "text", ""}
    assert (fences.count("sh"), fences.count("py"), fences.count("text")) == (7, 5, 1)


@with_mpi
def test_the_model_of_the_first_paper(tmp_path: Path) -> None:
    assert_went_around(run(blocks("sh", PAPER), tmp_path))


@with_mpi
def test_large(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers (the extra 'peers') is not installed")
    assert_went_around(run(blocks("sh", LARGE), tmp_path))
