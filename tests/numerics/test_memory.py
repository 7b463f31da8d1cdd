"""Freed memory stays in the process on request, unless the environment disables this."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping

import pytest

from numpy_xlstm.numerics.memory import SAID

PROGRAM = """
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import numpy_xlstm
from numpy_xlstm.numerics.memory import keep_freed_memory

if "keep" in sys.argv:
    keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(int(sys.argv[1]) * 2**20, np.uint8) for _ in range(180 // int(sys.argv[1]))]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def last():
    return [faults() for _ in range(4)][-1]

print(ThreadPoolExecutor().submit(last).result() if "thread" in sys.argv else last())
"""

PAGES = 180 * 2**20 // 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
@pytest.mark.parametrize(("where", "mebibytes"), [("main", 1), ("thread", 3)])
def test_memory_that_was_freed_is_there_again(where: str, mebibytes: int) -> None:
    assert faults("keep", where, size=mebibytes) < PAGES / 50


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_importing_the_package_changes_nothing() -> None:
    assert faults() > PAGES / 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072"),
    ],
)
def test_the_environment_has_the_last_word(name: str, value: str) -> None:
    assert faults("keep", environment={name: value}) > PAGES / 2


def faults(*arguments: str, size: int = 1, environment: Mapping[str, str] = {}) -> int:
    """Count the page faults for 180 MiB, in arrays of ``size`` MiB, that were just freed."""
    command = [sys.executable, "-c", PROGRAM, str(size), *arguments]
    outside = {name: value for name, value in os.environ.items() if name not in SAID}
    return int(subprocess.check_output(command, env={**outside, **environment}, text=True))
