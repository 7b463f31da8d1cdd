"""A folder of an xLSTM Large with random weights in bfloat16, and what it takes to run it.

``python -m benchmarks.large_folder make FOLDER`` writes a folder of the shape of xLSTM 7B, 14 GB,
and ``python -m benchmarks.large_folder run FOLDER`` loads it and generates.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import numpy_xlstm as nx
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.initial import ShapesOnly


def make(folder: Path, width: int, heads: int, blocks: int, vocabulary: int) -> None:
    """Write the folder. Each matrix is made of one row of random numbers, shifted row by row."""
    config = nx.xLSTMLargeConfig(
        width, num_heads=heads, num_blocks=blocks, vocab_size=vocabulary, weight_mode="single"
    )
    model = nx.xLSTMLarge(config, rng=ShapesOnly())  # shapes alone
    rng, params = np.random.default_rng(0), {}
    for name, array in model.params.items():
        params[name] = (
            np.ones(array.shape, np.float32) if "norm" in name else drawn(name, array, rng)
        )
    nx.save_pretrained(model.over(params), folder, format="transformers", dtype="bfloat16")


def drawn(name: str, like: Array, rng: np.random.Generator) -> Array:
    """Return random numbers in the shape of a parameter."""
    if like.ndim == 1:  # the biases of the gates
        return np.full(like.shape, -10 if "igate" in name else 4, np.float32)
    rows, columns = like.shape
    deviation = 1.0 if "embedding" in name else (2 / (5 * columns)) ** 0.5
    numbers = rng.normal(0, deviation, rows + columns - 1).astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(numbers, columns)


def run(folder: Path, weights: str, prompt: int, tokens: int) -> None:
    """Load the folder, read a prompt and generate; print times and memory."""
    clock = time.perf_counter(), time.process_time()

    def lap(what: str) -> None:
        nonlocal clock
        now = time.perf_counter(), time.process_time()
        status = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        memory = [int(status[key].split()[0]) / 2**20 for key in ("VmRSS", "RssFile")]
        print(
            f"{what:24} {now[0] - clock[0]:8.2f} s {now[1] - clock[1]:8.2f} s of CPU "
            f"{memory[0]:6.2f} GiB resident, {memory[0] - memory[1]:.2f} not in the page cache",
            flush=True,
        )
        clock = time.perf_counter(), time.process_time()

    model = nx.from_pretrained(folder, weights=weights)
    lap("load")
    logits, state = model(np.arange(1, prompt + 1)[None] % model.vocab_size)
    lap(f"prompt of {prompt}")
    step = model.prepared().compute
    ids = logits[:, -1].argmax(-1)
    _, state = step(ids, state)
    lap("first token")
    for _ in range(tokens):
        logits, state = step(ids, state)
        ids = logits.argmax(-1)
    lap(f"{tokens} tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["make", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=50304)
    parser.add_argument("--weights", default="stored", choices=["stored", "widened"])
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=20)
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, options.width, options.heads, options.blocks, options.vocabulary)
    else:
        run(options.folder, options.weights, options.prompt, options.tokens)


if __name__ == "__main__":
    main()
