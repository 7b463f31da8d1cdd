"""A small model and batches for tests of training."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from numpy_xlstm import LSTM, LanguageModel
from numpy_xlstm.training import Batch

V = 5


def small_model(cell: Any = LSTM, kind: Any = LanguageModel, dtype: Any = np.float64) -> Any:
    rng = np.random.default_rng(0)
    return kind(V, 4, cell(4, 6, dtype=dtype, rng=rng), rng=rng)


def draw_batches(seed: int = 1) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    while True:
        windows = (rng.integers(0, V, (3, 1)) + np.arange(8)) % V
        yield Batch(windows[:, :-1], windows[:, 1:])
