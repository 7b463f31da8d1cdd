"""Freed memory stays in the process on request, unless the environment disables this."""

import os
import platform
import subprocess
import sys

import numpy as np
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
@pytest.mark.parametrize(
    ("arguments", "environment", "least", "most"),
    [
        (["keep"], {}, 0, PAGES / 20),
        ([], {}, PAGES / 2, np.inf),
        (["keep"], {"MALLOC_TRIM_THRESHOLD_": "131072"}, PAGES / 2, np.inf),
        (["keep"], {"MALLOC_MMAP_THRESHOLD_": "131072"}, PAGES / 2, np.inf),
        (["keep"], {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, PAGES / 2, np.inf),
    ],
)
def test_freed_memory_is_kept_on_request_unless_the_environment_says_otherwise(
    arguments: list[str], environment: dict[str, str], least: float, most: float
) -> None:
    assert least <= faults(*arguments, **environment) < most


def faults(*arguments: str, **environment: str) -> int:
    """Count the page faults for 100 MiB that the process has just freed."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    outside = {name: value for name, value in os.environ.items() if name not in SAID}
    return int(subprocess.check_output(command, env=outside | environment, text=True))
