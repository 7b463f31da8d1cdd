"""Tasks that show what a cell can learn: functions of a generator, a batch size and lengths.

The page "The tasks" defines each one, with its ids, an example, its source and what was open.
"""

from collections.abc import Callable
from typing import NamedTuple

from numpy_xlstm.experiments.tasks.arithmetic import (
    modular_arithmetic,
    modular_arithmetic_brackets,
    solve_equation,
)
from numpy_xlstm.experiments.tasks.languages import (
    bucket_sort,
    cycle_navigation,
    even_pairs,
    majority,
    majority_count,
    missing_duplicate,
    odds_first,
    ordered_set,
    parity,
    repetition,
    reverse_string,
    stack_manipulation,
)
from numpy_xlstm.experiments.tasks.layout import Length
from numpy_xlstm.experiments.tasks.memory import nearest_neighbour, recall
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
        The answer.
    source : str
        The definition's source.
    """

    sample: Callable[..., Batch]
    vocabulary: int | None
    chance: float
    about: str
    source: str


_XLSTM = "Beck et al. 2024, arXiv 2405.04517"
_OFFICIAL = f"{_XLSTM}, and its repository"
_CHOMSKY = "Delétang et al. 2023, arXiv 2207.02098"
_ZOOLOGY = "Arora et al. 2023, arXiv 2312.04927"

TASKS = {
    "parity": Task(parity, 3, 1 / 2, "the parity of bits", _OFFICIAL),
    "even-pairs": Task(
        even_pairs, 3, 1 / 2, "whether bits change an even number of times", _OFFICIAL
    ),
    "cycle-navigation": Task(
        cycle_navigation, 9, 1 / 5, "the place on a cycle after moves", _OFFICIAL
    ),
    "modular-arithmetic": Task(
        modular_arithmetic, 10, 1 / 5, "the value of an expression modulo 5", _OFFICIAL
    ),
    "modular-arithmetic-brackets": Task(
        modular_arithmetic_brackets, 12, 1 / 5, "the same of one with brackets", _CHOMSKY
    ),
    "solve-equation": Task(solve_equation, 14, 1 / 5, "the unknown digit of an equation", _CHOMSKY),
    "majority": Task(majority, 64, 1 / 63, "the most frequent symbol", _XLSTM),
    "majority-count": Task(majority_count, 64, 1 / 63, "the count of that symbol", _XLSTM),
    "bucket-sort": Task(bucket_sort, 11, 1 / 10, "the string in order", _CHOMSKY),
    "missing-duplicate": Task(
        missing_duplicate, 11, 1 / 9, "the symbol missing in a repetition", _CHOMSKY
    ),
    "odds-first": Task(odds_first, 12, 1 / 10, "every second symbol, then the others", _CHOMSKY),
    "repetition": Task(repetition, 12, 1 / 10, "the string again", _CHOMSKY),
    "reverse-string": Task(reverse_string, 12, 1 / 10, "the string backwards", _CHOMSKY),
    "stack-manipulation": Task(stack_manipulation, 11, 1 / 4, "a stack after operations", _CHOMSKY),
    "set": Task(ordered_set, 128, 1 / 126, "the different symbols, as they first occur", _XLSTM),
    "recall": Task(recall, 64, 1 / 32, "the values of keys read before", _ZOOLOGY),
    "nearest-neighbour": Task(
        nearest_neighbour, None, 1 / 12, "the value of the point nearest to the first", _XLSTM
    ),
}
"""All tasks by name."""
