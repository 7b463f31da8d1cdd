"""One training step, and the loop that repeats it and reports."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from numpy_xlstm.errors import NonFiniteError, OptionError
from numpy_xlstm.layers import softmax_cross_entropy, softmax_cross_entropy_backward
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.models.protocols import RecurrentModel
from numpy_xlstm.training.clipping import clip_grad_norm
from numpy_xlstm.training.optimizers import AdamW
from numpy_xlstm.training.schedules import Schedule, constant


class Batch(NamedTuple):
    """Tokens and what follows each of them, both (B, T)."""

    inputs: IndexArray
    targets: IndexArray


class StepResult(NamedTuple):
    """What a training step found before it updated the parameters."""

    loss: float
    """Mean loss in nats per token."""
    grad_norm: float
    """Norm of the gradients before clipping."""


class Progress(NamedTuple):
    """Where training stands after a step."""

    step: int
    """How many steps have been taken."""
    fraction: float
    """How much of the budget is used up: 1 at the end."""
    loss: float
    """Mean loss of the step's batch in nats per token."""
    grad_norm: float
    """Norm of the gradients before clipping."""
    lr: float
    """Learning rate of the step."""
    tokens: int
    """How many tokens have been learned from."""
    elapsed: float
    """Seconds since the start, with whatever was done between the steps."""
    busy: float
    """Seconds spent in steps."""

    @property
    def tokens_per_second(self) -> float:
        """Speed of the steps alone."""
        return self.tokens / self.busy if self.busy else 0.0

    @property
    def seconds_left(self) -> float:
        """Time to the end if training goes on as it did."""
        return self.elapsed * (1 / self.fraction - 1) if self.fraction else 0.0


@dataclass(frozen=True)
class Budget:
    """How long to train: until ``steps`` or ``seconds``, whichever comes first.

    Raises
    ------
    OptionError
        If both are ``None`` or one is not positive.

    Examples
    --------
    >>> Budget(steps=100, seconds=60).fraction(step=30, elapsed=15)
    0.3
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise OptionError("budget: expected steps, seconds or both; got neither")
        for name, value in (("steps", self.steps), ("seconds", self.seconds)):
            if value is not None and not 0 < value < float("inf"):
                raise OptionError(f"{name}: expected a number above 0; got {value!r}")

    def fraction(self, step: int, elapsed: float) -> float:
        """How much of the budget is used up, at most 1."""
        by_steps = step / self.steps if self.steps is not None else 0.0
        by_time = elapsed / self.seconds if self.seconds is not None else 0.0
        return min(1.0, max(by_steps, by_time))


def train_step(
    model: RecurrentModel,
    optimizer: AdamW,
    batch: Batch,
    *,
    lr: float | None = None,
    max_norm: float = float("inf"),
) -> StepResult:
    """Forward, backward, clip, update: changes the model's parameters and the moments in place.

    Parameters
    ----------
    model : RecurrentModel
        Maps tokens (B, T) to logits (B, T, V); starts from its empty state.
    optimizer : AdamW
        Made from this model's ``params``.
    batch : Batch
        Inputs and targets, (B, T).
    lr : float, optional
        Learning rate of this step, if not the optimiser's.
    max_norm : float
        The norm to clip the gradients to.

    Raises
    ------
    NonFiniteError
        If the gradients are not finite; nothing has been updated then.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm.cells import LSTM
    >>> from numpy_xlstm.models import LanguageModel
    >>> rng = np.random.default_rng(0)
    >>> model = LanguageModel(3, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> optimizer = AdamW(model.params, lr=0.02)
    >>> text = np.array([[0, 1, 2] * 8])
    >>> batch = Batch(text[:, :-1], text[:, 1:])
    >>> losses = [train_step(model, optimizer, batch).loss for _ in range(60)]
    >>> losses[0] > 1.0 and losses[-1] < 0.1
    True
    """
    with np.errstate(over="ignore", invalid="ignore"):  # they end in a NonFiniteError
        logits, _, cache = model.forward(batch.inputs)
        loss, loss_cache = softmax_cross_entropy(logits, batch.targets)
        dlogits = softmax_cross_entropy_backward(1.0, loss_cache)
        _, _, grads = model.backward(dlogits, cache)
        clipped, norm = clip_grad_norm(grads, max_norm)
        optimizer.step(model.params, clipped, lr)
    return StepResult(float(loss), norm)


def train(
    model: RecurrentModel,
    optimizer: AdamW,
    batches: Iterable[Batch],
    budget: Budget,
    *,
    schedule: Schedule = constant,
    max_norm: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Progress]:
    """Train until the budget is used up or the batches are, and report after every step.

    Whatever the caller does between two reports, such as a validation, counts as elapsed time.

    Parameters
    ----------
    model, optimizer, max_norm
        As for :func:`train_step`.
    batches : Iterable[Batch]
        One batch per step.
    budget : Budget
        When to stop.
    schedule : Schedule
        Factor of the optimiser's learning rate at each fraction of the budget, the step that is
        about to be taken counted in.
    clock : Callable[[], float]
        Seconds from any origin.

    Yields
    ------
    Progress
        One record per step.

    Raises
    ------
    NonFiniteError
        If the training diverges.
    """
    start, busy, tokens = clock(), 0.0, 0
    for step, batch in enumerate(batches, start=1):
        began = clock()
        lr = optimizer.lr * schedule(budget.fraction(step, began - start))
        try:
            result = train_step(model, optimizer, batch, lr=lr, max_norm=max_norm)
        except NonFiniteError as error:
            raise NonFiniteError(
                f"training diverged at step {step} ({error}); lower the learning rate"
            ) from error
        now = clock()
        busy, tokens = busy + now - began, tokens + batch.inputs.size
        fraction = budget.fraction(step, now - start)
        yield Progress(step, fraction, *result, lr, tokens, now - start, busy)
        if budget.fraction(step, clock() - start) >= 1:
            return
