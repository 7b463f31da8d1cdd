"""A trial: one model is trained on one experiment with one seed."""

import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numpy_xlstm._version import __version__
from numpy_xlstm.config import Config
from numpy_xlstm.experiments.blind import blind
from numpy_xlstm.experiments.catalogue import Experiment
from numpy_xlstm.experiments.small_models import build_model
from numpy_xlstm.experiments.tasks.layout import Length
from numpy_xlstm.layers import Recurrent
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import (
    AdamW,
    Batch,
    Budget,
    Progress,
    TrainingState,
    official_decay,
    train,
    warmup_cosine,
)
from numpy_xlstm.training.step import loss_and_gradient

WINDOW = 20
"""Number of steps whose mean loss decides whether the sequences grow."""

VALIDATE_EVERY = 100
"""Steps between two validations."""

VALIDATION_SEED, TEST_SEED = 1_000_000_001, 1_000_000_002
"""Seeds of the sequences of validation and test, which no training can have."""

ROWS = 64
"""Number of sequences that a validation computes at a time."""

SCALES = {"squared error": 1.0, "bits per byte": math.log(2)}
"""Numbers by which losses are divided to give the metric."""


def decays(name: str, array: Array) -> bool:
    """Return whether a parameter decays: by the official rule, or as a matrix of an LSTM cell."""
    return official_decay(name, array) or name.rpartition(".")[2] in ("W", "R")


@dataclass(frozen=True)
class Curriculum(Config):
    """Growth of the sequences in a trial.

    Attributes
    ----------
    losses : list[float]
        The last losses at the present length.
    grown : list[int]
        Steps after which the longest length has grown.
    """

    losses: list[float] = field(default_factory=list)
    grown: list[int] = field(default_factory=list)

    def longest(self, experiment: Experiment) -> int:
        """Return the longest length now."""
        longest = experiment.first + experiment.grow * len(self.grown)
        return min(max(longest, experiment.train[0]), experiment.train[1])

    def rate(self, experiment: Experiment, step: int) -> float:
        """Return the factor of the learning rate: s / step if the experiment settles, else 1."""
        is_short = self.longest(experiment) < experiment.train[1]
        return 1.0 if is_short or not experiment.settles else (self.grown or [step])[-1] / step

    def add(self, experiment: Experiment, step: int, loss: float) -> None:
        """Add the loss of a step, and let the sequences grow if it is time."""
        self.losses[:] = [*self.losses, loss][-WINDOW:]
        is_short = self.longest(experiment) < experiment.train[1]
        if is_short and len(self.losses) == WINDOW and np.mean(self.losses) < experiment.below:
            self.losses.clear()
            self.grown.append(step)


def begin(experiment: Experiment, model: str, seed: int) -> TrainingState:
    """Return the state before the first step, which depends on the seed only."""
    rng = np.random.default_rng(seed)
    built = build_model(model, experiment.vocabulary, rng=rng)
    decay = experiment.weight_decay
    optimizer = AdamW(built.params, lr=experiment.lr, weight_decay=decay, decays=decays)
    return TrainingState(built, optimizer, rng)


def trial(
    experiment: Experiment, state: TrainingState, curriculum: Curriculum, steps: int
) -> Iterator[Progress]:
    """Train until the task is solved or the steps are used up; yield a report after each step.

    A validation is the error on the lengths of the test, see :func:`measure`. State and curriculum
    are changed in place; the following steps depend on nothing else.
    """
    if state.validations and state.validations[-1][1] <= experiment.solved:
        return

    def batches() -> Iterator[Batch]:
        while True:
            length = experiment.train[0], curriculum.longest(experiment)
            batch = experiment.sample(state.rng, experiment.batch, length)
            yield _like(batch, state.model)

    rate = warmup_cosine(experiment.warmup, experiment.final)

    def schedule(progress: float) -> float:
        return rate(progress) * curriculum.rate(experiment, state.step + 1)

    for progress in train(state, batches(), Budget(steps), schedule=schedule, max_norm=1.0):
        curriculum.add(experiment, progress.step, progress.loss)
        if progress.step % VALIDATE_EVERY and progress.fraction < 1:
            yield progress
            continue
        error = measure(experiment, state, experiment.test, VALIDATION_SEED, 256)
        state.validations.append((progress.step, error))
        yield progress._replace(validation=error)
        if error <= experiment.solved:
            return


def _like(batch: Batch, model: Recurrent) -> Batch:
    """Return a batch whose points have the dtype of a model."""
    is_points = batch.inputs.dtype.kind == "f"
    return batch._replace(inputs=batch.inputs.astype(model.dtype)) if is_points else batch


def measure(
    experiment: Experiment, state: TrainingState, length: Length, seed: int, sequences: int
) -> float:
    """Return the error on random sequences: 1 minus the rescaled accuracy, or the mean loss."""
    task = experiment.held_out or experiment.sample
    rng, wrong, counted = np.random.default_rng(seed), 0.0, 0
    for start in range(0, sequences, ROWS):
        rows = task(rng, min(ROWS, sequences - start), length)
        y, _ = state.model(_like(rows, state.model).inputs)
        if experiment.metric == "accuracy":
            wrong += np.count_nonzero((y.argmax(axis=-1) != rows.targets)[rows.mask])
        else:
            wrong += loss_and_gradient(y, rows)[0] * rows.num_targets
        counted += rows.num_targets
    return wrong / counted / SCALES.get(experiment.metric, 1 - experiment.chance)


def result(
    experiment: Experiment, facts: dict[str, Any], state: TrainingState, curriculum: Curriculum
) -> dict[str, Any]:
    """Return the result of a trial as JSON values; only its time differs in a repetition.

    ``facts`` are name, model, seed and steps. The curve has the steps and errors of all
    validations. The errors are those on new sequences of the lengths of training and test, and of
    each of ``counts``; ``blind`` is that of the best blind answer in the test.
    """
    lengths = {"train": experiment.train, "test": experiment.test}
    lengths |= {str(count): (count, count) for count in experiment.counts}
    errors = {
        name: measure(experiment, state, length, TEST_SEED, 1024)
        for name, length in lengths.items()
        if name != "train" or length != experiment.test
    }
    others = "shows", "sample", "held_out", "models", "minutes"
    settings = {name: x for name, x in experiment._asdict().items() if name not in others}
    versions = {"numpy_xlstm": __version__, "numpy": np.__version__}
    return {
        **facts,
        "metric": experiment.metric,
        "errors": errors,
        "blind": blind(experiment, experiment.test),
        "settings": lengths | settings,
        "parameters": state.model.num_parameters,
        "trained_steps": state.step,
        "tokens": state.tokens,
        "longest": curriculum.longest(experiment),
        "grown": curriculum.grown,
        "curve": state.validations,
        "seconds": round(state.elapsed, 1),
        "versions": versions | {"python": platform.python_version()},
    }


def score(metric: str, error: float) -> float:
    """Return the number that is shown for an error: the rescaled accuracy, or the error itself."""
    return 1 - error if metric == "accuracy" else error
