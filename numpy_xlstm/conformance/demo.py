"""Small models for the first check of a port: every parameter is random, so that none is hidden."""

from typing import Any

import numpy as np

from numpy_xlstm import models
from numpy_xlstm.numerics import Array

MLSTM = models.mLSTMBlockConfig(models.mLSTMLayerConfig(num_heads=2))
SLSTM = models.sLSTMBlockConfig(models.sLSTMLayerConfig(num_heads=2))
SIZES: dict[str, Any] = {"embedding_dim": 32, "num_blocks": 3, "vocab_size": 50}
DEMOS: dict[str, Any] = {
    # with large ε, so that their places matter, and small chunks
    "xlstm-large": models.xLSTMLargeConfig(
        **SIZES, num_heads=2, chunk_size=16, norm_eps=0.01, eps=0.02
    ),
    "xlstm": models.xLSTMLMModelConfig(MLSTM, SLSTM, context_length=64, slstm_at=[1], **SIZES),
}
"""Configurations of the models, by the names of their kinds."""


def demo(name: str) -> tuple[Any, list[int]]:
    """Return a model in float32 whose parameters are all random, and ids for it."""
    kind = models.xLSTMLarge if name == "xlstm-large" else models.xLSTMLMModel
    model, rng = kind(DEMOS[name], dtype=np.float32, rng=0), np.random.default_rng(0)
    params = {name: _live(array, rng) for name, array in model.params.items()}
    return model.with_params(params), rng.integers(50, size=40).tolist()


def _live(array: Array, rng: np.random.Generator) -> Array:
    """Return random numbers in place of initial ones, with gates that are neither open nor shut."""
    noise = rng.standard_normal(array.shape, np.float32)
    return np.clip(array, -1, 3) + noise if array.ndim == 1 else noise / array.shape[-1] ** 0.5
