"""Tasks that show what a cell can learn: functions of a generator, a batch size and lengths.

The page "The tasks of the experiments" defines each task, with its ids, an example, its source, and
what the source leaves open.
"""

from collections.abc import Callable
from typing import NamedTuple

from numpy_xlstm.experiments.tasks import arithmetic, languages, memory
from numpy_xlstm.experiments.tasks.layout import Length
from numpy_xlstm.training import Batch

__all__ = ["TASKS", "Length", "Task"]


class Task(NamedTuple):
    """A task: how to make batches of it, and the result of guessing.

    Parameters
    ----------
    sample : callable
        ``sample(rng, batch, length)`` returns a :class:`~numpy_xlstm.training.Batch` of ``batch``
        rows (B, T) that depends on the generator ``rng`` only. ``length`` is the shortest and the
        longest string, both included; the length of each row is uniform. The mask is true at the
        positions of the answer.
    vocabulary : int or None
        Number of ids of inputs and targets, or ``None`` if inputs (B, T, 3) and targets (B, T) are
        real numbers.
    chance : float
        Accuracy per symbol of a uniform guess, or the least mean squared error of a constant.
    about : str
        The answer that the task asks for, as a phrase.
    """

    sample: Callable[..., Batch]
    vocabulary: int | None
    chance: float
    about: str


TASKS = {
    "parity": Task(languages.parity, 3, 1 / 2, "the parity of bits"),
    "even-pairs": Task(
        languages.even_pairs, 3, 1 / 2, "the parity of the number of changes from bit to bit"
    ),
    "cycle-navigation": Task(languages.cycle_navigation, 9, 1 / 5, "the final place on a cycle"),
    "modular-arithmetic": Task(
        arithmetic.modular_arithmetic, 10, 1 / 5, "the value of an expression"
    ),
    "modular-arithmetic-brackets": Task(
        arithmetic.modular_arithmetic_brackets, 12, 1 / 5, "the same with brackets"
    ),
    "solve-equation": Task(arithmetic.solve_equation, 14, 1 / 5, "an unknown digit"),
    "majority": Task(languages.majority, 64, 1 / 63, "the most frequent symbol"),
    "majority-count": Task(languages.majority_count, 64, 1 / 63, "how often it occurs"),
    "bucket-sort": Task(languages.bucket_sort, 11, 1 / 10, "the symbols in order"),
    "missing-duplicate": Task(languages.missing_duplicate, 11, 1 / 9, "a missing symbol"),
    "odds-first": Task(
        languages.odds_first, 12, 1 / 10, "the symbols at odd places, then those at even ones"
    ),
    "repetition": Task(languages.repetition, 12, 1 / 10, "the string again"),
    "reverse-string": Task(languages.reverse_string, 12, 1 / 10, "the string backwards"),
    "stack-manipulation": Task(languages.stack_manipulation, 11, 1 / 4, "a stack after operations"),
    "set": Task(
        languages.ordered_set, 128, 1 / 126, "the distinct symbols, in order of first occurrence"
    ),
    "recall": Task(memory.recall, 64, 1 / 32, "the values of keys read before"),
    "nearest-neighbour": Task(
        memory.nearest_neighbour, None, 1 / 12, "the value of the nearest point"
    ),
}
"""All tasks by name."""
