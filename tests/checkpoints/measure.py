"""Write a checkpoint in eight files, read it, and print what that has taken, as JSON.

``python -m tests.checkpoints.measure FOLDER BYTES DTYPE``, in a process of its own.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from numpy_xlstm import from_pretrained, save_pretrained, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.models import MetaInitialisation

ROUNDS = 4


def peak() -> int:
    """The most memory that this process has had, in bytes.

    Linux counts in ``ru_maxrss`` what the process that has started this one had.
    """
    if found := _status("VmHWM"):
        return found
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def now() -> int:
    """The memory that it has now, or, where the system does not say, the most that it has had."""
    return _status("VmRSS") or peak()


def _status(name: str) -> int:
    """A size that Linux tells of a process, in bytes; 0 elsewhere."""
    table = Path("/proc/self/status")
    lines = table.read_text().splitlines() if table.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def write(folder: Path, size: int, dtype: str) -> None:
    """A random model of about so many bytes."""
    per_block, width = 12.3, 1024 if size > 500_000_000 else 512
    blocks = max(1, round(size / (4 if dtype == "float32" else 2) / (per_block * width**2)))
    config = xLSTMLargeConfig(width, num_heads=4, num_blocks=blocks, vocab_size=8 * width)
    model, rng = xLSTMLarge(config, rng=MetaInitialisation()), np.random.default_rng(0)
    params = {n: rng.random(a.shape, np.float32) - 0.5 for n, a in model.params.items()}
    total = sum(a.size for a in params.values()) * (4 if dtype == "float32" else 2)
    limit = int(total / 7.5)
    save_pretrained(model.with_params(params), folder, dtype=dtype, max_shard_size=limit)


def read(folder: Path) -> dict[str, float]:
    """Peak over the parameters' bytes, and the time over that of reading the files."""
    files = sorted(folder.glob("*.safetensors"))
    before = now()
    model = from_pretrained(folder)
    size = sum(array.nbytes for array in model.params.values())
    memory = (peak() - before) / size
    del model
    reading, loading = [], []
    for _ in range(ROUNDS):  # in turn, as other work on the machine comes and goes
        start = time.perf_counter()
        content = [file.read_bytes() for file in files]
        reading.append(time.perf_counter() - start)
        del content
        start = time.perf_counter()
        model = from_pretrained(folder)
        loading.append(time.perf_counter() - start)
        del model
    times = {"reading": min(reading), "loading": min(loading)}
    return {"files": len(files), "bytes": size, "memory": memory, **times}


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        print(json.dumps(read(Path(sys.argv[2]))))
