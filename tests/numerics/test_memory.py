"""Freed memory stays in the process on request, unless the environment disables this."""

import os
import platform
import subprocess
import sys

import pytest

from numpy_xlstm.numerics.memory import SAID

PROGRAM = """
import resource
import sys
import numpy as np
import numpy_xlstm
from numpy_xlstm.numerics.memory import keep_freed_memory

if "keep" in sys.argv:
    keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(2**20, np.uint8) for _ in range(100)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print([faults() for _ in range(4)][-1])
"""

PAGES = 100 * 2**20 // 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_memory_that_was_freed_is_there_again() -> None:
    assert faults("keep") < PAGES / 20


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
    assert faults("keep", **{name: value}) > PAGES / 2


def faults(*arguments: str, **environment: str) -> int:
    """Count the page faults for 100 MiB that the process has just freed."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    outside = {name: value for name, value in os.environ.items() if name not in SAID}
    return int(subprocess.check_output(command, env=outside | environment, text=True))
