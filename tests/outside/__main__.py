"""Run adapters in environments of their own: ``python -m tests.outside [--check] [NAME …]``.

Writes the tables of the page and then runs the tests, or only these with --check. Without a name, it
takes all packages that are light, together in one environment.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.outside.test_outside import MODULES

ROOT = Path(__file__).parents[2]
TOOLS = ["pytest>=8", "pytest-xdist>=3.5", "sybil>=6", "hypothesis>=6.100", "packaging", "-e", "."]
PAGE = "docs/where-implementations-disagree.md"


def prepared(folder: Path, requirements: list[str]) -> Path:
    """Make an environment with these requirements of Python and of npm; return its Python."""
    python = folder / "bin/python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    of_npm = [name for name in requirements if "@" in name]
    of_python = [name for name in requirements if name not in of_npm]
    install = [str(python), "-m", "pip", "install", "-q", *TOOLS, *of_python]
    subprocess.run(install, cwd=ROOT, check=True)
    if npm := shutil.which("npm") if of_npm else None:
        subprocess.run([npm, "install", "--silent", "--prefix", str(folder), *of_npm], check=True)
    return python


def run(name: str, modules: list[str], check: bool) -> int:
    """Run these adapters in the environment of this name; return the exit status of the tests."""
    folder = ROOT / f".venv-outside-{name}"
    requirements = [part for module in modules for part in MODULES[module].REQUIRES.split()]
    python = str(prepared(folder, requirements))
    # JAX compiles the same few steps again and again.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "jax")}
    cache |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    cache |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    environment = os.environ | cache
    if not check:
        packages = [MODULES[module].IMPLEMENTATIONS[0].package for module in modules]
        command = [python, "-m", "tests.outside.page", *packages]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    tests = [python, "-m", "pytest", "-n", "2", "--dist", "worksteal", "tests/outside", PAGE]
    return subprocess.run(tests, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    check, names = "--check" in sys.argv, [name for name in sys.argv[1:] if name != "--check"]
    light = [name for name, module in MODULES.items() if not hasattr(module, "HEAVY")]
    groups = {name: [name] for name in names} or {"light": light}
    sys.exit(max(run(name, modules, check) for name, modules in groups.items()))
