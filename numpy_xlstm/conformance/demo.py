"""Small models for the first check of a port: every parameter is random, so that none is hidden."""

from typing import Any

import numpy as np

from numpy_xlstm.models import (
    FeedForwardConfig,
    LanguageModel,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.numerics import Array

# Both ε of xLSTM Large are large, so that their place and their values matter.
LARGE = xLSTMLargeConfig(
    32, num_heads=2, num_blocks=3, vocab_size=50, chunk_size=16, norm_eps=0.01, eps=0.02
)
PAPER = xLSTMLMModelConfig(
    mlstm_block=mLSTMBlockConfig(mLSTMLayerConfig(num_heads=2)),
    slstm_block=sLSTMBlockConfig(sLSTMLayerConfig(num_heads=2), FeedForwardConfig()),
    context_length=64,
    num_blocks=3,
    embedding_dim=32,
    slstm_at=[1],
    vocab_size=50,
)
DEMOS = ("xlstm-large", "xlstm")
"""Names of the models."""
TOKENS = 40
"""Number of ids of a demo: more than two chunks."""


def demo(name: str) -> tuple[LanguageModel[Any], list[int]]:
    """Return a model in float32 whose parameters are all random, and ids for it."""
    model = xLSTMLarge(LARGE) if name == "xlstm-large" else xLSTMLMModel(PAPER)
    rng = np.random.default_rng(0)
    params = {n: _live(array, rng).astype(np.float32) for n, array in model.params.items()}
    return model.astype("float32").with_params(params), rng.integers(50, size=TOKENS).tolist()


def _live(array: Array, rng: np.random.Generator) -> Array:
    """Return random numbers in place of initial ones, with gates that are neither open nor shut."""
    noise = rng.standard_normal(array.shape)
    return np.clip(array, -1, 3) + noise if array.ndim == 1 else noise / array.shape[-1] ** 0.5
