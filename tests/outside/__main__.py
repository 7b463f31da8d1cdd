"""Run adapters in environments of their own: ``python -m tests.outside [--check] [NAME …]``.

Write the tables of the page, then run the tests; with --check only the tests. Without a name, take
all light packages together. In the environment itself, --here writes the tables.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.conformance.implementations.page import PAGE, write
from tests.outside.shared import installed
from tests.outside.test_outside import MODULES

LIGHT = "flax haiku equinox brainstate jax_lstm keras mlx mygrad tinygrad thinc"
TOOLS = "pytest>=8 pytest-xdist>=3.5 sybil>=6 hypothesis>=6.100"
ALSO = {"xlstm_torch": " PyxLSTM torchxlstm"}  # which are only on the page
ROOT = Path(__file__).parents[2]


def prepared(folder: Path, requirements: list[str]) -> str:
    """Make an environment with these requirements of Python and of npm; return its Python."""
    python = str(folder / "bin/python")
    if not folder.exists():
        venv.create(folder, with_pip=True)
    of_npm = [name for name in requirements if "@" in name]
    of_python = [name for name in requirements if name not in of_npm]
    command = [python, "-m", "pip", "install", "-q", "-e", ".", *of_python]
    subprocess.run(command, cwd=ROOT, check=True)
    if npm := shutil.which("npm") if of_npm else None:
        subprocess.run([npm, "install", "--silent", "--prefix", str(folder), *of_npm], check=True)
    return python


def run(name: str, modules: list[str], check: bool) -> int:
    """Run these adapters in the environment of this name; return the exit status of the tests."""
    folder = ROOT / f".venv-outside-{name}"
    texts = [TOOLS, *(MODULES[module].REQUIRES + ALSO.get(module, "") for module in modules)]
    python = prepared(folder, " ".join(texts).split())
    # JAX compiles the same few steps again and again.
    cache = {"COMPILATION_CACHE_DIR": str(folder / "jax")}
    cache |= {"PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    cache |= {"PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    environment = os.environ | {f"JAX_{key}": value for key, value in cache.items()}
    environment["NUMPY_XLSTM_COMPILED"] = "0"
    if not check:
        command = [python, "-m", "tests.outside", "--here", *modules]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    options = ["-n", "2", "--dist", "loadgroup", "-W", "ignore"]  # warnings of the packages
    tests = [python, "-m", "pytest", *options, "tests/outside", str(PAGE)]
    return subprocess.run(tests, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if not name.startswith("--")]
    if "--here" in sys.argv:
        for name in names:
            each = MODULES[name].IMPLEMENTATIONS
            write(each[0].package, installed(each[0].package), each)
    else:
        groups = {name: [name] for name in names} or {"light": LIGHT.split()}
        sys.exit(max(run(name, group, "--check" in sys.argv) for name, group in groups.items()))
