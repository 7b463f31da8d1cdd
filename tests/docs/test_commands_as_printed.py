"""Every command line of README and of the pages runs as printed, in an environment made as printed.

This takes minutes and installs packages. Only the time of trainings is changed.
``test_command_line.py`` runs the commands of ``command-line.md``.
"""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import LanguageModel, save_pretrained, sLSTM, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.conformance import SMALL

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
PYTHON = next((name for name in ("python3.13", "python3.11") if shutil.which(name)), "python3")
PAGES = ("run-anywhere", "gradcheck", "conformance", "trace", "bounds", "training")
"""The last page installs numba, which would compile kernels for the others too."""
PROGRAMS = ("numpy-xlstm", "mpiexec", "pip", "python3")
LONG = re.compile(r"--minutes [\d.]+|(?<=numpy-xlstm train)(?!.*--(minutes|steps|resume))")

LAYER = """
import numpy as np


class MyCell:
    input_size = 3

    def __init__(self, *sizes, rng=None):
        self.params = {"w": np.ones(3)}

    def forward(self, x):
        return x * self.params["w"], x

    def backward(self, dy, x):
        return dy * self.params["w"], {"w": (dy * x).reshape(-1, 3).sum(0)}
"""
PORT = f"""#!/usr/bin/env python3
import pathlib, shutil, sys
name = pathlib.Path(sys.argv[1]).name.removesuffix(".in.safetensors")
here = pathlib.Path(__file__).parent
folders = here / "kit", here / "trace", pathlib.Path({str(SMALL)!r})
files = [folder / "results" / (name + ".safetensors") for folder in folders]
shutil.copy(next(file for file in files if file.exists()), sys.argv[2])
"""


def commands(page: str) -> list[str]:
    """Return the command lines of a page, but not that of the tests."""
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.M | re.S)
    shell = [block for kind, block in blocks if kind in ("", "bash", "sh", "text")]
    lines = "".join(shell).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.split(" ")[0] in PROGRAMS and "pytest" not in line]


def run(command: str, folder: Path, home: Path) -> None:
    """Run a command as in a shell where the environment is active."""
    active = f". '{home}/.venv/bin/activate' && " if (home / ".venv").exists() else ""
    short = LONG.sub(" --minutes 0.02", command).replace(" -e '.", f" -e '{home}/.")
    print("$", command, flush=True)
    shell = ["bash", "-euo", "pipefail", "-c", active + short]
    done = subprocess.run(shell, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{folder.name}: {command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with an environment, in which all commands of README have run."""
    folder = tmp_path_factory.mktemp(PYTHON) / "README.md"
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    printed = commands("README.md")
    assert len(printed) > 5
    for command in printed:
        run(command.replace("python3 -m venv", f"{PYTHON} -m venv"), folder, folder)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_commands_run_as_printed(page: str, home: Path) -> None:
    folder = home.parent / page
    (folder / "my_package").mkdir(parents=True)
    (folder / "my_package" / "my_module.py").write_text(LAYER, "utf-8")
    (folder / "my_port").write_text(PORT, "utf-8")
    (folder / "my_port").chmod(0o755)
    (folder / "notes").mkdir()
    for name in ("book.txt", "mine.txt", "notes/a.md"):
        (folder / name).write_text("The cat sat on the mat, and the dog by it. " * 60, "utf-8")
    rng = np.random.default_rng(0)
    save_pretrained(
        LanguageModel(9, 4, sLSTM(4, 8, rng=rng), rng=rng), folder / "model.safetensors"
    )
    large = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9), rng=0)
    save_pretrained(large, folder / "xLSTM-7b", format="transformers")  # it stands for 7B
    printed = commands(f"docs/{page}.md")
    assert printed
    of_readme = " && ".join(commands("README.md")).split(" && ")
    for command in printed:
        if command != "numpy-xlstm gradcheck" or command not in of_readme:  # it has run
            run(command, folder, home)
