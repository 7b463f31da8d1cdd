"""The experiments: for each its task, its recipe, and what it shows."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from numpy_xlstm.errors import OptionError
from numpy_xlstm.experiments.tasks import TASKS, Length
from numpy_xlstm.numerics import did_you_mean
from numpy_xlstm.training import Batch


class Experiment(NamedTuple):
    """A task with lengths and a recipe, which is the same for all models."""

    shows: str
    """What the experiment shows, and which model wins."""
    sample: Callable[..., Batch]
    """The task: ``sample(rng, batch, length)``."""
    vocabulary: int | None
    """Number of ids; None for real numbers."""
    chance: float
    """Accuracy of guessing, which the rescaled accuracy takes as 0."""
    train: Length = (3, 40)
    """Shortest and longest length at the end of the training."""
    test: Length = (40, 256)
    """Lengths of validation and test."""
    first: int = 4
    """Longest length at the beginning of the training."""
    grow: int = 2
    """How much the longest length grows …"""
    below: float = 0.15
    """… whenever the mean loss of the last steps is below this number."""
    lr: float = 2e-3
    steps: int = 2400
    solved: float = 0.001
    """Largest error of the validation at which the training ends early."""
    batch: int = 64
    minutes: float = 5.0
    """Time that a run of any model takes at most on two cores."""

    @property
    def metric(self) -> str:
        """Name of the result: of the accuracy more is better, of the squared error less."""
        return "squared error" if self.vocabulary is None else "accuracy"


def _of(name: str, shows: str, **recipe: object) -> Experiment:
    task = TASKS[name]
    known = {"vocabulary": task.vocabulary, "chance": task.chance, "sample": task.sample}
    return Experiment(shows, **{**known, **recipe})  # type: ignore[arg-type]


def _recall(context: int, pairs: int, steps: int) -> Experiment:
    return _of(
        "recall",
        f"{pairs} values by their keys in {context} steps: mLSTM before sLSTM before LSTM",
        sample=partial(TASKS["recall"].sample, context=context),
        train=(1, pairs),
        test=(pairs, pairs),
        first=1,
        grow=1,
        below=0.3,
        lr=3e-3,
        steps=steps,
        minutes=10.0,
    )


EXPERIMENTS = {
    "parity": _of("parity", "sLSTM and LSTM track a state over any length, mLSTM does not"),
    "recall-64-4": _recall(64, 4, 1600),
    "recall-128-8": _recall(128, 8, 1200),
    "nearest-neighbour": _of(
        "nearest-neighbour",
        "sLSTM and mLSTM revise a stored value; LSTM does less well",
        train=(1, 63),
        test=(63, 63),
        first=63,
        lr=3e-3,
        steps=1500,
        solved=0.0,
    ),
}
"""All experiments by name."""

LANGUAGES = sorted(TASKS.keys() - {"parity", "recall", "nearest-neighbour"})
EXPERIMENTS |= {name: _of(name, TASKS[name].about, steps=600) for name in LANGUAGES}


def find(name: str) -> Experiment:
    """Return the experiment with this name, or raise :class:`OptionError`."""
    if name not in EXPERIMENTS:
        hint = did_you_mean(name, EXPERIMENTS)
        raise OptionError(
            f"experiment: expected one of {', '.join(EXPERIMENTS)}; got {name!r}{hint}"
        )
    return EXPERIMENTS[name]
