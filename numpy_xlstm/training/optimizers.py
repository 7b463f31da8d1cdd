"""The registry of optimisers. A new one is a file like ``adamw.py``, and an entry here."""

from collections.abc import Callable

from numpy_xlstm.training.adamw import AdamW
from numpy_xlstm.training.protocol import Optimizer

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"AdamW": AdamW}
"""Optimisers by the names of their classes, which checkpoints contain."""
