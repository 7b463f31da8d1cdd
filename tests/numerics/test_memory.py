"""Freed memory stays in the process on request and after training, unless this is disabled."""

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
if "train" in sys.argv:
    model = numpy_xlstm.LanguageModel(3, 4, numpy_xlstm.LSTM(4, 4))
    ids = np.array([[0, 1, 2]])
    training = numpy_xlstm.training
    training.train_step(model, training.AdamW(model.params), training.Batch(ids, ids))
if "generate" in sys.argv:
    numpy_xlstm.LanguageModel(3, 4, numpy_xlstm.LSTM(4, 4)).generate(np.array([[0]]))

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
        (["train"], {}, 0, PAGES / 20),
        (["generate"], {}, 0, PAGES / 20),
        ([], {}, PAGES / 2, np.inf),
        (["keep"], {"MALLOC_TRIM_THRESHOLD_": "131072"}, PAGES / 2, np.inf),
        (["keep"], {"MALLOC_MMAP_THRESHOLD_": "131072"}, PAGES / 2, np.inf),
        (["keep"], {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, PAGES / 2, np.inf),
    ],
)
def test_freed_memory_is_kept_unless_the_environment_says_otherwise(
    arguments: list[str], environment: dict[str, str], least: float, most: float
) -> None:
    assert least <= faults(*arguments, **environment) < most


def faults(*arguments: str, **environment: str) -> int:
    """Count the page faults for 100 MiB that the process has just freed."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    outside = {name: value for name, value in os.environ.items() if name not in SAID}
    return int(subprocess.check_output(command, env=outside | environment, text=True))
