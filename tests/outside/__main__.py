"""Run adapters in environments of their own: ``python -m tests.outside [--check] [PACKAGE …]``.

Write the rows of the page, then run the tests; with --check only the tests. Without a package, take
all light ones together. With --same, install into this environment; --here only writes the rows.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from tests.conformance.implementations.page import write
from tests.outside.shared import installed
from tests.outside.test_outside import ALL

ROOT = Path(__file__).parents[2]
LIGHT = "flax dm-haiku equinox brainstate jax keras mlx mygrad ncnn tinygrad thinc"
FAST = {  # JAX compiles less, and the same steps once
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".venv-outside-light/jax"),
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "NUMPY_XLSTM_COMPILED": "0",
}


def prepared(folder: Path, packages: list[str]) -> str:
    """Install these packages in an environment, which may be new; return its Python."""
    every = [each.requires.split() for each in ALL if each.package in packages]
    requirements, python = {name for names in every for name in names}, str(folder / "bin/python")
    of_npm = [name for name in requirements if "@" in name]
    if not folder.exists():
        venv.create(folder, with_pip=True)
    pip = [python, "-m", "pip", "install", "-q", "-e", ".[test]"]
    subprocess.run([*pip, *requirements.difference(of_npm)], cwd=ROOT, check=True)
    if of_npm:
        subprocess.run(["npm", "install", "--silent", "--prefix", folder, *of_npm], check=True)
    return python


def run(name: str, packages: list[str], check: bool) -> int:
    """Run these packages in the environment of this name; return the exit status of the tests."""
    own = ROOT / f".venv-outside-{name.rpartition('/')[2]}"
    python = prepared(Path(sys.prefix) if "--same" in sys.argv else own, packages)
    more: Any = {"cwd": ROOT, "env": os.environ | FAST}
    if not check:
        subprocess.run([python, "-m", "tests.outside", "--here", *packages], check=True, **more)
    pytest = [python, "-m", "pytest", "-W", "ignore", "-n", "2"]  # warnings of the packages
    return subprocess.run([*pytest, "--dist", "load", "tests/outside"], **more).returncode


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if not name.startswith("--")]
    every = {name: [each for each in ALL if each.package == name] for name in names}
    if unknown := [name for name in names if not every[name]]:
        sys.exit(f"unknown: {' '.join(unknown)}; known: {' '.join({each.package for each in ALL})}")
    if "--here" in sys.argv:
        for name in names:
            write(name, installed(every[name][0].requires.split()[0]), every[name])
    else:
        groups = {name: [name] for name in names} or {"light": LIGHT.split()}
        sys.exit(max(run(name, group, "--check" in sys.argv) for name, group in groups.items()))
