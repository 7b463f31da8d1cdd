"""Compiled code is kept on disk, is made again if it is damaged, and is made once."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from inspect import unwrap
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.kernels.functions import compiled, kernel
from numpy_xlstm.numerics import Array

with_numba = pytest.mark.skipif(
    not compiled(), reason="kernels are not compiled: numba is missing or turned off"
)


PROGRAM = """
import sys
import numpy as np
import numpy_xlstm
from numpy_xlstm.kernels import functions
from numpy_xlstm.kernels.functions import kernel, pointwise

@pointwise
def twice(x):
    return 2 * (1 + x)

@kernel
def outer(x):
    inner(x)
    return x.sum()

@kernel
def inner(x):
    for i in range(len(x)):
        x[i] = twice(x[i])

assert "numba" not in sys.modules
if sys.argv[1:]:
    from numpy_xlstm.kernels import compiler
    compiler.LONGEST_WAIT = 600
    if "changed" in sys.argv:
        compiler.source_hash = lambda module: b"other"
print(outer(np.zeros(3, np.float32)), functions.compiled(), functions.compiled(np.longdouble))
found = functions._dispatcher(outer.__wrapped__, "kernel")
stats = getattr(found, "stats", [None])
print([sum(counts.values()) for counts in stats[1:]], "numba" in sys.modules)
"""


def _run(*command: str, **environment: str) -> list[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "NUMPY_XLSTM_COMPILED"}
    line, environment = [sys.executable, "-W", "error", *command], inherited | environment
    both = subprocess.STDOUT
    return subprocess.check_output(
        line, text=True, env=environment, stderr=both, timeout=600
    ).splitlines()


RIGHT = "6.0 True False"
FIRST = "compiling kernels for this machine: the first use may take half a minute"


@with_numba
def test_many_processes_compile_a_kernel_once(tmp_path: Path) -> None:
    """The others load it from disk, unless a file with one of its functions has changed.

    A lock that anybody takes on the source does not stop them.
    """
    (program := tmp_path / "program.py").write_text(PROGRAM)
    run = partial(_run, str(program), NUMBA_CACHE_DIR=str(tmp_path))
    with program.open() as source, ThreadPoolExecutor() as pool:
        if os.name == "posix":
            importlib.import_module("fcntl").flock(source, 2)  # exclusive
        outputs = list(pool.map(run, ["patient"] * 3))
    assert sorted(outputs) == [[RIGHT, "[1, 0] True"]] * 2 + [[FIRST, RIGHT, "[0, 1] True"]]
    assert run("changed") == [RIGHT, "[0, 1] True"]


@with_numba
@pytest.mark.skipif(os.name != "posix", reason="Windows has no such locks")
def test_a_lock_that_is_not_released_delays_but_does_not_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = importlib.import_module("numpy_xlstm.kernels.compiler")
    monkeypatch.setattr(compiler, "LONGEST_WAIT", 0.3)
    path = tmp_path / "lock"
    with compiler.lock(path):
        assert path.stat().st_mode & 0o077 == 0  # another user can neither read nor lock it
        with compiler.lock(path):  # as another process, while the holder is stopped
            assert "another process has held" in caplog.text
            assert str(path) in caplog.text
        caplog.clear()
        with monkeypatch.context() as m:
            m.setattr(os, "close", lambda _: None)  # the holder has forked
            with compiler.lock(tmp_path / "other"):
                pass
    for free in (path, tmp_path / "other", tmp_path, tmp_path / "no" / "folder"):
        with compiler.lock(free):
            assert not caplog.text


def _damaged(code: bytes) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    bits, n = bytearray(code), int(rng.integers(8 * len(code)))
    bits[n // 8] ^= 1 << n % 8
    variants = {"empty": b"", "cut": code[: len(code) // 2], "other": b"x" * len(code)}
    return variants | {f"bit {n}": bytes(bits)}


@pytest.fixture
def misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Run a kernel as a new process does; return how many signatures it has compiled."""
    pytest.importorskip("numpy_xlstm.kernels.elementary")
    compiler = importlib.import_module("numpy_xlstm.kernels.compiler")
    path = str(tmp_path / "code.nbc")
    monkeypatch.setattr(compiler.CheckedFiles, "_data_path", lambda *args: path)

    def run() -> int:
        x, dispatcher = np.array([1.0, 2.0]), compiler.dispatcher(unwrap(_double), "kernel")
        dispatcher(x)
        assert x.tolist() == [2, 4]
        return sum(dispatcher.stats.cache_misses.values())

    return run


@kernel
def _double(x: Array) -> None:
    for i in range(len(x)):
        x[i] *= 2


@with_numba
def test_damaged_code_is_compiled_again(tmp_path: Path, misses: Callable[[], int]) -> None:
    assert [misses(), misses()] == [1, 0]
    file = tmp_path / "code.nbc"
    code = file.read_bytes()
    for name, damaged in _damaged(code).items():
        file.write_bytes(damaged)
        assert [misses(), misses()] == [1, 0], name


@with_numba
@pytest.mark.parametrize(
    ("function", "files"),
    [
        ("os.replace", []),
        ("os.makedirs", []),
        ("builtins.open", []),
        ("pathlib.Path.read_bytes", ["code.nbc"]),
    ],
)
def test_without_space_or_permission_a_kernel_is_compiled_all_the_same(
    function: str,
    files: list[str],
    tmp_path: Path,
    misses: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(function, fail)
    assert [misses(), misses()] == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == files


LOOPS = {
    **dict.fromkeys(("lstm", "slstm", "gru", "elman", "peephole"), "CELL.loop"),
    **{"adamw": "loop", "maps": "norm_rows"},
    "mlstm.chunkwise": "through_chunks",
    "mlstm.step": "heads_step",
}
"""A compiled loop of each module."""


@with_numba
@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        *((f"{name}.py", {name}) for name in ("lstm", "gru", "elman", "peephole", "slstm")),
        *((f"{n}.py", {"lstm", "slstm", "gru", "elman", "peephole"}) for n in ("scan", "loops")),
        ("common.py", {*LOOPS} - {"adamw"}),
        ("matrices.py", {"mlstm.chunkwise", "mlstm.step"}),
        ("step.py", {"mlstm.step"}),
        ("maps.py", {"maps"}),
        *(
            (f"{n}.py", None)
            for n in ("functions", "elementary", "tiles", "compiler", "activations")
        ),
    ],
)
def test_code_depends_on_the_sources_of_its_functions_alone(
    changed: str, stale: set[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = importlib.import_module("numpy_xlstm.kernels.compiler")
    importlib.import_module("numpy_xlstm.kernels.elementary")
    modules = {}
    for name, loop in LOOPS.items():
        module = importlib.import_module(f"numpy_xlstm.kernels.{name}")
        modules[name] = attrgetter(loop)(module).__module__
    hashed = compiler.source_hash.__wrapped__
    before = {name: hashed(module) for name, module in modules.items()}
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + b"#" * (p.name == changed))
    found = {name for name, module in modules.items() if hashed(module) != before[name]}
    assert found == (stale or {*LOOPS})


@with_numba
def test_a_kernel_that_cannot_be_kept_is_compiled_all_the_same() -> None:
    """Numba has no cache on disk for a program without a file."""
    assert _run("-c", PROGRAM) == [RIGHT, "[0, 1] True"]


# Numba raises ImportError if it does not know this version of NumPy.
NO_NUMBA = "import sys; sys.modules['numba'] = None\n" + PROGRAM.replace("assert", "assert 1 or")


@pytest.mark.parametrize(
    ("program", "environment", "numba"),
    [
        (PROGRAM, {"NUMPY_XLSTM_COMPILED": "0"}, "False"),
        (PROGRAM, {"NUMBA_DISABLE_JIT": "1"}, str(find_spec("numba") is not None)),
        (NO_NUMBA, {}, "True"),
    ],
)
def test_compilation_is_off(program: str, environment: dict[str, str], numba: str) -> None:
    """``numba`` is whether the module is in ``sys.modules``."""
    assert _run("-c", program, **environment) == ["6.0 False False", f"[] {numba}"]
