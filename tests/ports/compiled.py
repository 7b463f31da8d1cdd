"""The sLSTM and the mLSTM in C, compiled by the system's compiler."""

import importlib.util
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case, Report
from numpy_xlstm.conformance.ports import from_command

SOURCES = Path(__file__).parents[2] / "examples/c"
WARNINGS = "-Wall -Wextra -Wpedantic -Werror"
STRICT = f"-O2 {WARNINGS}"
SANITISED = f"-O1 {WARNINGS} -g -fsanitize=address,undefined -fno-sanitize-recover=undefined"


def build(
    folder: Path,
    *targets: str,
    flags: str = STRICT,
    changes: Any = (),
    changed: str = "slstm.c",
    like: Path | None = None,
) -> Path:
    """Copy the sources, change one where asked to, and compile them; skip if one cannot.

    Of a folder that is built ``like`` this one only the changed source is compiled anew.
    """
    compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None or shutil.which("make") is None:
        pytest.skip("no C compiler, or no make")
    objects = like.glob("*.o") if like else ()
    for source in (*SOURCES.glob("*.[ch]"), SOURCES / "Makefile", *objects):
        shutil.copy2(source, folder)
    text = (folder / changed).read_text("utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    if changes:
        (folder / changed).write_text(text, encoding="utf-8")
    command = ["make", "-s", "-C", str(folder), f"CC={compiler}", f"CFLAGS={flags}", *targets]
    done = subprocess.run(command, capture_output=True, text=True)
    if "sanitize" in flags and ("cannot find" in done.stderr or "unsupported" in done.stderr):
        pytest.skip(f"{compiler} has no sanitizers here")
    assert done.returncode == 0, done.stderr
    return folder


def example() -> Any:
    """Import ``examples/c/compiled.py``."""
    spec = importlib.util.spec_from_file_location("compiled_slstm", SOURCES / "compiled.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases(family: str, dtype: str | None = None, seed: int = 0) -> list[Case]:
    """Return the cases of a step and of a sequence, the same ones in every call."""
    dtypes = [dtype] if dtype else ["float64", "float32"]
    return [case for each in dtypes for case in _cases(family, each, seed)]


@cache
def _cases(family: str, dtype: str, seed: int) -> list[Case]:
    subjects = f"{family}.step", f"{family}.sequence"
    return [case for name in subjects for case in conformance.cases(name, dtype, seed=seed)]


def verified(program: Path, chosen: list[Case], folder: Path) -> Report:
    """Return the report of a program."""
    port = from_command(f"{program} {{in}} {{out}}", folder, seconds=600)
    return conformance.verify(chosen, port)
