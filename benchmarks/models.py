"""Time whole models beside the official PyTorch package: training and generation.

    python -m benchmarks.models [--only TEXT] [--turns N] [--runs N] [--ours]

One training run is a forward, a backward and an AdamW update over a batch, ours also by two
MPI ranks. One generation run is a number of tokens drawn greedily, one at a time, for one row and
for as many as the batch has. Each contender runs in a process of its own. The peers are optional:
where they are missing, see --ours.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import Setup, Work, child, machine, side_by_side
from numpy_xlstm import (
    mLSTMBlockConfig,
    sLSTMBlockConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import AdamW, Batch, ranks, train_step

V, B, T = 256, 4, 256
TOKENS = 256
"""Tokens of a generation run."""

TWO_RANKS = "ours, two ranks"
"""The contender that is launched with mpiexec."""

MIXED: dict[str, Any] = {"slstm_at": [1]}
MLSTM: dict[str, Any] = {"slstm_at": []}
SLSTM: dict[str, Any] = {"slstm_at": "all"}
STACK: dict[str, Any] = {"num_blocks": 7, "embedding_dim": 128, "vocab_size": V}
LARGE: dict[str, Any] = {
    "embedding_dim": 512,
    "num_heads": 4,
    "num_blocks": 6,
    "vocab_size": V,
}


def batch(B: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    tokens = np.random.default_rng(0).integers(0, V, (B, T + 1))
    return tokens[:, :-1], tokens[:, 1:]


def our_model(places: dict[str, Any] | None) -> Any:
    rng = np.random.default_rng(0)
    if places is None:
        return xLSTMLarge(xLSTMLargeConfig(**LARGE), dtype=np.float32, rng=rng)
    config = xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(), slstm_block=sLSTMBlockConfig(), **STACK, **places
    )
    return xLSTMLMModel(config, dtype=np.float32, rng=rng)


def our_training(places: dict[str, Any] | None, B: int) -> Setup:
    """By as many MPI ranks as were launched."""

    def setup() -> Work:
        model = our_model(places)
        optimizer, step, comm = AdamW(model.params), Batch(*batch(B)), ranks.world()
        return lambda: train_step(model, optimizer, step, comm=comm)

    return setup


def tokens(setup: Setup) -> Setup:
    """The work of one token, for a run."""

    def repeated() -> Work:
        work = setup()

        def run() -> None:
            for _ in range(TOKENS):
                work()

        return run

    return repeated


def our_generation(places: dict[str, Any] | None, B: int) -> Setup:
    """Steps of the prepared model, as :func:`numpy_xlstm.generate` goes about it."""

    def setup() -> Work:
        model = our_model(places)

        def work() -> None:
            prepared = model.prepared()
            token, state = np.ones(B, np.int64), model.init_state(B)
            for _ in range(TOKENS):
                logits, state = prepared.compute(token, state)
                token = logits.argmax(-1)

        return work

    return setup


def our_calls(places: dict[str, Any] | None, B: int) -> Setup:
    """One call of the model for each token."""

    def setup() -> Work:
        model = our_model(places)

        def work() -> None:
            token, state = np.ones((B, 1), np.int64), None
            for _ in range(TOKENS):
                logits, state = model(token, state)
                token = logits[:, -1:].argmax(-1)

        return work

    return setup


Product = tuple[int, Callable[[Array, Array], Array], Array, Array]
"""How often, how, and two matrices, or stacks of such."""


def product_floor(places: dict[str, Any] | None, B: int, T: int, backward: bool) -> Setup:
    """The products of our model with its matrices, and with those of its memories; no more.

    A backward has two for each of the forward's. The products of a memory are those of the step,
    or of its chunks, those between two rows of scores among them.
    """

    def setup() -> Work:
        model, rows, times = our_model(places), B * T, 3 if backward else 1
        works: list[Product] = []
        for name, W in model.params.items():
            if name.endswith("_recurrent_kernel_"):
                works.append((times * T, np.matmul, W, np.ones((len(W), W.shape[2], B), W.dtype)))
            elif W.ndim > 1 and "conv" not in name and "embedding" not in name:
                x = np.ones((*W.shape[:-2], rows, W.shape[-1]), W.dtype)
                works.append((times, np.matmul, x, W.swapaxes(-1, -2)))
        for state in model.init_state(B):
            memory = getattr(state, "mlstm", state)
            if hasattr(memory, "C"):
                works += memory_products(memory.C, T, times)

        def work() -> None:
            for count, product, a, b in works:
                for _ in range(count):
                    product(a, b)

        return work

    return setup


def memory_products(C: Array, T: int, times: int) -> list[Product]:
    """Scores, states and readings of an mLSTM."""
    B, NH, DK, DV = C.shape
    L = min(T, 64)
    chunks = (B, NH, T // L)
    q, v = np.ones((*chunks, L, DK), C.dtype), np.ones((*chunks, L, DV), C.dtype)
    scores, values = np.ones((*chunks, L, L), C.dtype), np.ones((*chunks, DK, DV), C.dtype)
    if T == 1:
        return [(times, np.matmul, q, values)]
    k = q.swapaxes(-1, -2)
    return [(times, np.matmul, *pair) for pair in ((q, k), (k, v), (scores, v), (q, values))]


def their_model(places: dict[str, Any] | None, inference: bool) -> Any:
    import torch

    torch.manual_seed(0)
    if places is None:
        from xlstm.xlstm_large.model import xLSTMLarge as Model
        from xlstm.xlstm_large.model import xLSTMLargeConfig as Config

        return Model(
            Config(
                **LARGE,
                chunkwise_kernel="chunkwise--native_autograd",
                sequence_kernel="native_sequence__native",
                step_kernel="native",
                mode="inference" if inference else "train",
                return_last_states=True,
                autocast_kernel_dtype="float32",
            )
        )
    import xlstm

    slstm = xlstm.sLSTMLayerConfig(backend="vanilla", dtype="float32")
    config = xlstm.xLSTMLMModelConfig(
        mlstm_block=xlstm.mLSTMBlockConfig(),
        slstm_block=xlstm.sLSTMBlockConfig(slstm=slstm),
        context_length=T,
        **STACK,
        **places,
    )
    return xlstm.xLSTMLMModel(config)


def their_training(places: dict[str, Any] | None, B: int) -> Setup:
    def setup() -> Work:
        import torch

        model = their_model(places, inference=False)
        optimizer = torch.optim.AdamW(model.parameters())
        inputs, targets = (torch.tensor(array) for array in batch(B))

        def work() -> None:
            optimizer.zero_grad()
            logits = model(inputs)
            logits = logits[0] if isinstance(logits, tuple) else logits
            loss: Any = torch.nn.functional.cross_entropy(
                logits.reshape(-1, V), targets.reshape(-1)
            )
            loss.backward()
            optimizer.step()

        return work

    return setup


def their_generation(places: dict[str, Any] | None, B: int) -> Setup:
    def setup() -> Work:
        import torch

        model = their_model(places, inference=True).eval()
        step: Callable[..., Any] = model if places is None else model.step

        def work() -> None:
            with torch.no_grad():
                token, state = torch.ones((B, 1), dtype=torch.int64), None
                for _ in range(TOKENS):
                    logits, state = step(token, state)
                    token = logits[:, -1:].argmax(-1)

        return work

    return setup


def table(places: dict[str, Any] | None, B: int) -> dict[str, dict[str, Setup]]:
    return {
        "training": {
            TWO_RANKS: our_training(places, B),
            "ours, one process": our_training(places, B),
            "official": their_training(places, B),
            "our matrix products alone": product_floor(places, B, T, backward=True),
        },
    } | {
        f"generation of {rows}": {
            "ours": our_generation(places, rows),
            "ours, a call for each token": our_calls(places, rows),
            "official": their_generation(places, rows),
            "our matrix products alone": tokens(product_floor(places, rows, 1, backward=False)),
        }
        for rows in (1, B)
    }


MODELS: dict[str, tuple[dict[str, Any] | None, int]] = {
    "xLSTM, 7 blocks, d 128, sLSTM at 1, B 4, T 256": (MIXED, B),
    "xLSTM, 7 blocks, d 128, mLSTM only, B 4, T 256": (MLSTM, B),
    "xLSTM, 7 blocks, d 128, sLSTM only, B 4, T 256": (SLSTM, B),
    "xLSTM Large, 6 blocks, d 512, B 4, T 256": (None, B),
}
TABLES = {
    f"{kind}: {title}": contenders
    for title, (places, size) in MODELS.items()
    for kind, contenders in table(places, size).items()
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=4, help="runs per process (default: 4)")
    parser.add_argument("--turns", type=int, default=3, help="processes each (default: 3)")
    parser.add_argument("--only", default="", help="tables whose title contains this")
    parser.add_argument("--ours", action="store_true", help="leave the official package out")
    parser.add_argument("--child", nargs=2, metavar=("TABLE", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        title, name = arguments.child
        child(TABLES, title, name, arguments.runs)
        return
    print(machine())
    print(f"float32; training: one step; generation: {TOKENS} tokens; median, ratio to ours, range")
    for title, contenders in TABLES.items():
        if arguments.only in title:
            names = [n for n in contenders if not arguments.ours or n != "official"]
            launchers = {TWO_RANKS: [str(Path(sys.executable).with_name("mpiexec")), "-n", "2"]}
            sizes = arguments.turns, arguments.runs
            side_by_side("benchmarks.models", title, names, *sizes, launchers)


if __name__ == "__main__":
    main()
