"""Formal languages: the answer is a function of a random string."""

import numpy as np

from numpy_xlstm.experiments.tasks.layout import Length, answered, random_strings
from numpy_xlstm.training import Batch


def parity(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Return bits 1 and 2, and at the last one 1 if the number of 2s is even, else 2."""
    bits, n = random_strings(rng, batch, length, 2)
    return answered(bits, n, 1 + (bits == 2).sum(1) % 2)
