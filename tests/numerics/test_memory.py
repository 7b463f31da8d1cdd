"""Memory: what is available, errors for arrays that exceed it, and freed memory that is kept."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import LSTM, GRUCell, Linear, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.errors import SizeError
from numpy_xlstm.numerics import memory
from numpy_xlstm.numerics.initial import ShapesOnly


@pytest.fixture(autouse=True)
def _fresh() -> None:
    memory._memory_of_machine.cache_clear()


def test_the_machine_has_some_memory_and_no_more_than_a_petabyte() -> None:
    assert 2**24 < memory.memory_limit() < 2**50


@pytest.mark.parametrize(
    ("membership", "root", "name"),
    [
        ("1:cpu:/cpu\n0::/a/b\n", "", "memory.max"),
        ("4:memory:/a/b\n0::/\n", "memory", "memory.limit_in_bytes"),
    ],
)
def test_the_limits_of_all_control_groups_around_the_process_count(
    membership: str, root: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "cgroup")
    machine = memory._memory_of_machine()  # without such a list
    (tmp_path / "cgroup").write_text(membership)
    (tmp_path / root / "a" / "b").mkdir(parents=True)
    (tmp_path / root / "a" / "c").mkdir()
    for group, limit, expected in (
        ("a/c", "1\n", machine),  # of another process
        ("a/b", "max\n", machine),
        ("", "3000\n", 3000),  # in a container, which may see only its root
        ("a", "2000\n", 2000),
        ("a/b", "1000\n", 1000),
    ):
        (tmp_path / root / group / name).write_text(limit)
        memory._memory_of_machine.cache_clear()
        assert memory._memory_of_machine() == expected


def test_a_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**26, resource.RLIM_INFINITY))
    assert memory.memory_limit() == 2**26
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert memory.memory_limit() == memory._memory_of_machine()


def test_what_fits_exactly_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 parameters need additional memory for the float64 numbers that are drawn."""
    monkeypatch.setattr(memory, "memory_limit", lambda: (64 * 32 + 64) * 4 + 64 * 32 * 8)
    Linear(32, 64, dtype=np.float32)
    Linear(47, 64)
    for width, dtype in ((48, np.float64), (33, np.float32)):
        with pytest.raises(SizeError, match="sizes: expected"):
            Linear(width, 64, dtype=dtype)


def test_the_layers_together_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_limit", lambda: 10**5)
    LSTM(4, 4, num_layers=3)
    with pytest.raises(SizeError):
        LSTM(4, 4, num_layers=100)
    GRUCell(4, 8)
    config = xLSTMLargeConfig(8, num_heads=2, num_blocks=20, vocab_size=5)
    with pytest.raises(SizeError):
        xLSTMLarge(config)
    assert xLSTMLarge(config, rng=ShapesOnly()).num_parameters * 8 > 10**5


PROGRAM = """
import json
import os
import resource
import numpy as np
from numpy_xlstm import LSTM, LanguageModel, generate, training
from numpy_xlstm.numerics.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(2**20, np.uint8) for _ in range(100)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def train():
    model, ids = LanguageModel(3, 4, LSTM(4, 4)), np.array([[0, 1, 2]])
    training.train_step(model, training.AdamW(model.params), training.Batch(ids, ids))

def generated():
    generate(LanguageModel(3, 4, LSTM(4, 4)), np.array([[0]]))

def set_and_keep(name, value):
    os.environ[name] = value
    keep_freed_memory()

cases = {
    "nothing": lambda: None,
    "keep": keep_freed_memory,
    "train": train,
    "generate": generated,
    "trim": lambda: set_and_keep("MALLOC_TRIM_THRESHOLD_", "131072"),
    "mmap": lambda: set_and_keep("MALLOC_MMAP_THRESHOLD_", "131072"),
    "tunables": lambda: set_and_keep("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072"),
}
for name, case in cases.items():
    if not os.fork():
        case()
        print(json.dumps([name, [faults() for _ in range(4)][-1]]), flush=True)
        os._exit(0)
    os.wait()
"""
"""Print the page faults for 100 MiB that a process has just freed, each in a process of its own."""

PAGES = 100 * 2**20 // 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_freed_memory_is_kept_unless_the_environment_says_otherwise() -> None:
    outside = {name: value for name, value in os.environ.items() if name not in memory.SAID}
    outside["NUMPY_XLSTM_COMPILED"] = "0"
    printed = subprocess.check_output([sys.executable, "-c", PROGRAM], env=outside, text=True)
    faults = dict(map(json.loads, printed.splitlines()))
    assert len(faults) == 7
    for name, count in faults.items():
        assert (count < PAGES / 20) == (name in ("keep", "train", "generate")), faults
        assert not PAGES / 20 <= count < PAGES / 2, faults
