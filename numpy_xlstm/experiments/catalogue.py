"""The experiments: for each its task, its recipe, and what it shows."""

from collections.abc import Callable, Collection
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.experiments.small_models import ABLATION, HEADS, TASK_MODELS
from numpy_xlstm.experiments.tasks import arithmetic, languages, memory
from numpy_xlstm.experiments.tasks.layout import Length
from numpy_xlstm.numerics import Array, did_you_mean
from numpy_xlstm.training import Batch, default_text, random_windows, split_text

FALLING: dict[str, Any] = {"warmup": 0.1, "final": 0.01}
"""Rate of an experiment that uses all its steps, or whose sequences do not grow."""


class Experiment(NamedTuple):
    """A task with lengths and a recipe, which is the same for all models."""

    shows: str
    """The claim that the experiment supports, or the answer that a task asks for."""
    sample: Callable[..., Batch]
    """The task: ``sample(rng, batch, length)`` returns ``batch`` rows (B, T) that depend on ``rng``
    only. The length of each row is uniform between the two of ``length``, both included. The mask
    is true at the positions of the answer."""
    vocabulary: int | None
    """Number of ids of inputs and targets; None for points (B, T, 3) and values (B, T)."""
    chance: float = 0.0
    """Accuracy per symbol of a uniform guess, which the rescaled accuracy takes as 0, or the least
    mean squared error of a constant."""
    train: Length = (3, 40)
    """Shortest and longest length at the end of the training."""
    test: Length = (40, 256)
    """Lengths of validation and test."""
    first: int = 4
    """Longest length at the beginning of the training."""
    grow: int = 2
    """How much the longest length grows at a time."""
    below: float = 0.15
    """The longest length grows when the mean loss of the last steps is below this number."""
    lr: float = 2e-3
    warmup: float = 0.05
    """Share of the steps in which the rate rises."""
    final: float = 1.0
    """Factor of the rate at the end. A falling rate leaves nothing to a run that learns late."""
    settles: bool = False
    """Whether the rate falls as s / step after the step s that reaches the longest length."""
    steps: int = 3000
    solved: float = 0.001
    """Largest error of a validation at which the training ends early."""
    batch: int = 64
    weight_decay: float = 0.1
    metric: str = "accuracy"
    """The result: the rescaled accuracy, "squared error" or "bits per byte"."""
    held_out: Callable[..., Batch] | None = None
    """The task of validation and test, if it is another one."""
    counts: Collection[int] = ()
    """Further lengths at which the trained model is measured."""
    models: Collection[str] = TASK_MODELS
    minutes: float = 5.0
    """Longest time in minutes that a run of any model takes on two cores."""


def part_of_text(training: bool) -> Callable[..., Batch]:
    """Return the task of the default text: its first nine tenths for training, or the rest.

    A batch has random windows of ``length[1]`` bytes each, and the next bytes as targets.
    """

    @cache
    def part() -> Array:
        split = split_text(default_text(), 128)
        text = split.train if training else split.validation
        return np.frombuffer(text.encode(), np.uint8).astype(int)

    def windows(rng: np.random.Generator, batch: int, length: Length) -> Batch:
        return next(random_windows(part(), batch, length[1], rng))

    return windows


def _recall(pairs: int, vocabulary: int = 64) -> Experiment:
    return Experiment(
        f"{pairs} values recalled by their keys, in {16 * pairs} steps of {vocabulary} ids",
        partial(memory.recall, vocabulary=vocabulary),
        vocabulary,
        2 / vocabulary,
        train=(1, pairs),
        test=(pairs, pairs),
        first=1,
        grow=1,
        below=0.3,
        settles=True,
        steps=4000,
        solved=0.003,
        batch=16,
        minutes=10.0,
    )


BRACKETS = arithmetic.modular_arithmetic_brackets
LANGUAGES = {
    name: Experiment(shows, sample, vocabulary, chance)
    for name, sample, vocabulary, chance, shows in (
        ("even-pairs", languages.even_pairs, 3, 1 / 2, "the parity of the number of changes"),
        ("cycle-navigation", languages.cycle_navigation, 9, 1 / 5, "the final place on a cycle"),
        ("modular-arithmetic", arithmetic.modular_arithmetic, 10, 1 / 5, "an expression's value"),
        ("modular-arithmetic-brackets", BRACKETS, 12, 1 / 5, "the same with brackets"),
        ("solve-equation", arithmetic.solve_equation, 14, 1 / 5, "an unknown digit"),
        ("majority", languages.majority, 64, 1 / 63, "the most frequent symbol"),
        ("majority-count", languages.majority_count, 64, 1 / 63, "how often it occurs"),
        ("bucket-sort", languages.bucket_sort, 11, 1 / 10, "the symbols in order"),
        ("missing-duplicate", languages.missing_duplicate, 11, 1 / 9, "a missing symbol"),
        ("odds-first", languages.odds_first, 12, 1 / 10, "symbols at odd places, then the others"),
        ("repetition", languages.repetition, 12, 1 / 10, "the string again"),
        ("reverse-string", languages.reverse_string, 12, 1 / 10, "the string backwards"),
        ("stack-manipulation", languages.stack_manipulation, 11, 1 / 4, "a stack after operations"),
        ("set", languages.ordered_set, 128, 1 / 126, "the distinct symbols, in order"),
    )
}
"""Experiments of the formal languages, except parity. What they show is the answer asked for."""


def _patient(name: str, **changes: Any) -> Experiment:
    """Return a language in which what holds beyond the trained lengths comes long after them."""
    recipe: dict[str, Any] = {"train": (1, 40), "first": 1, "below": 0.6, "lr": 4e-3}
    recipe |= {"solved": 0.005, "minutes": 30.0}
    return LANGUAGES[name]._replace(**recipe | changes)


PARITY = Experiment("sLSTM and LSTM track random bits, mLSTM does not", languages.parity, 3, 1 / 2)

EXPERIMENTS = {
    "parity": PARITY,
    "parity-official": PARITY._replace(
        shows="parity by the recipe of the official repository, all lengths from the first step",
        first=40,
        lr=1e-3,
        batch=256,
        **FALLING,
        steps=20_000,
        minutes=90.0,
    ),
    "parity-own-shares": PARITY._replace(
        shows="parity where each row has its own share of ones, from 0 to 1",
        sample=partial(languages.parity, own_shares=True),
    ),
    "recall-64-4": _recall(4),
    "recall-64-4-vocabulary-256": _recall(4, 256),
    "recall-64-4-vocabulary-1024": _recall(4, 1024),
    "recall-128-8": _recall(8),
    "recall-256-16": _recall(16),
    "capacity": _recall(31)._replace(
        shows="how many pairs one mLSTM head holds, by the width of its keys; 128 steps",
        sample=partial(memory.recall, context=128),
        counts=(1, 2, 4, 6, 8, 12, 16, 24, 31),
        steps=6000,
        models=tuple(HEADS),
    ),
    "nearest-neighbour": Experiment(
        "sLSTM and mLSTM revise a stored value; LSTM does less well",
        memory.nearest_neighbour,
        None,
        1 / 12,
        train=(1, 63),
        test=(63, 63),
        first=3,
        grow=4,
        below=0.03,
        lr=3e-3,
        **FALLING,
        steps=1500,
        solved=0.0,
        metric="squared error",
    ),
    "ablation": Experiment(
        "the changes from LSTM to xLSTM, one after the other, in a language model",
        part_of_text(True),
        256,
        train=(128, 128),
        test=(128, 128),
        first=128,
        lr=3e-3,
        batch=16,
        **FALLING,
        steps=250,
        solved=0.0,
        metric="bits per byte",
        held_out=part_of_text(False),
        models=tuple(ABLATION),
    ),
    **LANGUAGES,
    "even-pairs": LANGUAGES["even-pairs"]._replace(steps=400),
    "cycle-navigation": _patient("cycle-navigation", steps=40_000, solved=0.01, batch=16),
    "modular-arithmetic": _patient("modular-arithmetic", first=3, steps=12_000),
    "bucket-sort": _patient("bucket-sort", below=0.3, lr=8e-3, steps=24_000, solved=0.04, batch=16),
    "majority": LANGUAGES["majority"]._replace(first=40, lr=4e-3, final=0.01, batch=16),
    "missing-duplicate": _patient("missing-duplicate", grow=1, steps=4000, minutes=20.0),
}
"""All experiments by name."""


def known(label: str, name: str, names: Collection[str]) -> str:
    """Return a name if it is one of ``names``, or raise :class:`OptionError` with a hint."""
    if name not in names:
        hint = did_you_mean(name, names)
        raise OptionError(f"{label}: expected one of {', '.join(names)}; got {name!r}{hint}")
    return name
