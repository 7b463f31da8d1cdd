"""Program of the ranks of ``test_ranks.py``: single steps, with results in a file for each rank."""

import sys
from typing import Any

import numpy as np

from numpy_xlstm import (
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.training import AdamW, Batch, ranks, train_step
from numpy_xlstm.trees import leaves, tree_map

V, B, T = 7, 6, 9
STEPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"max_norm": 1e-3},
    "parts": {"accumulate": 2, "recompute": True},
    "masked": {"last_rows_count": False},
    "dropped": {"dropout": 0.5},
}
"""Options of each step."""


def build(dropout: float = 0.0) -> xLSTMLMModel:
    config = xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(mLSTMLayerConfig(num_heads=2, round_proj_up_to_multiple_of=8)),
        slstm_block=sLSTMBlockConfig(sLSTMLayerConfig(num_heads=2), None),
        num_blocks=2,
        embedding_dim=8,
        slstm_at=[1],
        vocab_size=V,
        dropout=dropout,
    )
    built = xLSTMLMModel(config, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for array in built.params.values():
        array += 0.2 * rng.standard_normal(array.shape)
    return built


def take_step(model: xLSTMLMModel, name: str, comm: Any) -> tuple[float, float, dict[str, Any]]:
    """Return loss, norm and state after a step from a non-empty state."""
    options = STEPS[name].copy()
    rng = np.random.default_rng(2)
    ids, before = rng.integers(0, V, (B, T + 1)), rng.integers(0, V, (B, 5))
    mask = rng.random((B, T)) < 0.6
    mask[3:] &= options.pop("last_rows_count", True)  # nothing counts for the last rank
    model.body.recompute = options.pop("recompute", False)
    if options.pop("dropout", 0):
        options["rng"] = rng
    part = ranks.rank_rows(B, comm)
    state = tree_map(lambda array: array[part], model(before)[1])
    batch = Batch(ids[:, :-1], ids[:, 1:], mask)
    optimizer = AdamW(model.params, lr=0.01)
    result = train_step(model, optimizer, batch, state=state, comm=comm, **options)
    return result.loss, result.grad_norm, dict(leaves("state", result.state))


def main(folder: str) -> None:
    """Take all steps twice, and write the results of each time."""
    comm: Any = ranks.world()
    for time in ("first", "again"):
        results: dict[str, Any] = {}
        for name, options in STEPS.items():
            model = build(options.get("dropout", 0.0))
            loss, norm, state = take_step(model, name, comm)
            results |= {f"{name}.loss": loss, f"{name}.norm": norm}
            results |= {f"{name}.{n}": array for n, array in state.items()}
            results |= {f"{name}.param.{n}": array for n, array in model.params.items()}
        np.savez(f"{folder}/{time}.{comm.rank}.npz", **results)


if __name__ == "__main__":
    main(sys.argv[1])
