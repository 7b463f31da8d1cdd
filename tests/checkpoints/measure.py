"""Write a checkpoint in eight files, read it, and print time and memory as JSON.

Run ``python -m tests.checkpoints.measure FOLDER BYTES DTYPE`` in a separate process.
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
    """Return the peak memory of this process in bytes.

    On Linux, ``ru_maxrss`` includes the memory of the parent process.
    """
    if found := _status("VmHWM"):
        return found
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def now() -> int:
    """Return the current memory, or the peak on systems without this number."""
    return _status("VmRSS") or peak()


def _status(name: str) -> int:
    """Return a size of this process on Linux, in bytes; 0 elsewhere."""
    table = Path("/proc/self/status")
    lines = table.read_text().splitlines() if table.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def write(folder: Path, size: int, dtype: str) -> None:
    """Make a random model of about this size in bytes."""
    per_block, width = 12.3, 1024 if size > 500_000_000 else 512
    blocks = max(1, round(size / (4 if dtype == "float32" else 2) / (per_block * width**2)))
    config = xLSTMLargeConfig(width, num_heads=4, num_blocks=blocks, vocab_size=8 * width)
    model, rng = xLSTMLarge(config, rng=MetaInitialisation()), np.random.default_rng(0)
    params = {n: rng.random(a.shape, np.float32) - 0.5 for n, a in model.params.items()}
    total = sum(a.size for a in params.values()) * (4 if dtype == "float32" else 2)
    limit = int(total / 7.5)
    save_pretrained(model.with_params(params), folder, dtype=dtype, max_shard_size=limit)


def read(folder: Path) -> dict[str, float]:
    """Return peak memory relative to the parameters, and time relative to plain reading."""
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
