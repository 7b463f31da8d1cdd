"""Tasks that show what a cell can learn: functions of a generator, a batch size and lengths.

The page "The tasks" defines each one, with its ids, an example and its source.
"""

from collections.abc import Callable
from typing import NamedTuple

from numpy_xlstm.experiments.tasks.languages import parity
from numpy_xlstm.experiments.tasks.layout import Length
from numpy_xlstm.experiments.tasks.memory import nearest_neighbour, recall
from numpy_xlstm.training import Batch

__all__ = ["TASKS", "Length", "Task"]


class Task(NamedTuple):
    """A task: how to make batches of it, and the result of guessing."""

    sample: Callable[..., Batch]
    """``sample(rng, batch, length)`` returns a batch with lengths (shortest, longest)."""
    vocabulary: int | None
    """Number of ids of inputs and targets; ``None`` if both are real numbers."""
    chance: float
    """Accuracy per symbol of guessing; for real targets the error of their mean."""
    about: str
    source: str


PAPER = "xLSTM, arXiv 2405.04517"
TASKS = {
    "parity": Task(parity, 3, 1 / 2, "whether the number of ones is even", PAPER),
    "recall": Task(
        recall, 64, 1 / 32, "the values of keys read before", "Zoology, arXiv 2312.04927"
    ),
    "nearest-neighbour": Task(
        nearest_neighbour, None, 1 / 12, "the value of the point nearest to the first", PAPER
    ),
}
"""All tasks."""
