"""The loop that repeats the training step and reports, its budget, and learning rates over it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

from numpy_xlstm.errors import NonFiniteError, OptionError
from numpy_xlstm.numerics import (
    check_above_zero,
    check_callable,
    check_has,
    check_kind,
    check_positive,
    is_number,
)
from numpy_xlstm.training.ranks import Clock, common_clock
from numpy_xlstm.training.state import TrainingState
from numpy_xlstm.training.step import (
    Batch,
    StepOptions,
    check_step_options,
    train_step,
)

Schedule = Callable[[float], float]
"""Maps the fraction of the training that is done to a factor of the learning rate."""


def constant(progress: float) -> float:
    """Keep the learning rate: the factor is 1 at any ``progress``."""
    return 1.0


def warmup_cosine(warmup: float = 0.05, final: float = 0.1) -> Schedule:
    r"""Rise linearly, then fall along half a cosine.

    .. math::
        s(p) = \begin{cases} p / w & p < w \\
        f + (1 - f) \, \tfrac12 \big( 1 + \cos π \tfrac{p - w}{1 - w} \big) & p ≥ w \end{cases}

    Parameters
    ----------
    warmup : float
        w, the fraction of the training after which the factor is 1; in [0, 1).
    final : float
        f, the factor at the end; in [0, 1].

    Raises
    ------
    OptionError
        If an argument is out of range.

    Examples
    --------
    >>> schedule = warmup_cosine(warmup=0.2, final=0.1)
    >>> [round(schedule(p), 3) for p in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.55, 0.1]
    """
    if not is_number(warmup) or not 0 <= warmup < 1:
        raise OptionError(f"warmup: expected a number in [0, 1); got {warmup!r}")
    if not is_number(final) or not 0 <= final <= 1:
        raise OptionError(f"final: expected a number in [0, 1]; got {final!r}")

    def schedule(progress: float) -> float:
        if progress < warmup:
            return progress / warmup  # [schedule.1]
        fall = (min(progress, 1.0) - warmup) / (1 - warmup)
        return final + (1 - final) * (1 + math.cos(math.pi * fall)) / 2  # [schedule.2]

    return schedule


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
    tokens_per_character: float = 1.0
    """Of the text that is learned from."""
    validation: float | None = None
    """Bits per character of the held-out text, if they have just been measured."""

    @property
    def bits(self) -> float:
        """The step's loss in bits per character."""
        return self.loss * self.tokens_per_character / math.log(2)

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
        If both are ``None`` or one is not positive, or ``steps`` is not a whole number.

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
        if self.steps is not None:
            object.__setattr__(self, "steps", check_positive("steps", self.steps))
        if self.seconds is not None:
            object.__setattr__(self, "seconds", check_above_zero("seconds", self.seconds))

    def fraction(self, step: int, elapsed: float) -> float:
        """How much of the budget is used up, at most 1."""
        by_steps = step / self.steps if self.steps is not None else 0.0
        by_time = elapsed / self.seconds if self.seconds is not None else 0.0
        return min(1.0, max(by_steps, by_time))


def train(
    state: TrainingState,
    batches: Iterable[Batch],
    budget: Budget,
    *,
    schedule: Schedule = constant,
    carry: bool = False,
    clock: Clock = time.perf_counter,
    **options: Unpack[StepOptions],
) -> Iterator[Progress]:
    """Train until the budget is used up or the batches are, and report after every step.

    At each report ``state`` stands after the step: stored then, and loaded, it goes on as if
    nothing had happened, if the budget is in steps and the batches are drawn from ``state.rng``
    and ``state.step`` alone. Whatever the caller does between two reports, such as a validation,
    counts as elapsed time.

    Parameters
    ----------
    state : TrainingState
        Model, optimiser and generator, and where they stand: is changed in place.
    batches : Iterable[Batch]
        One batch per step, from the next step on.
    budget : Budget
        When to stop, with the steps and the time before counted in.
    schedule : Schedule
        Factor of the optimiser's learning rate at each fraction of the budget, the step that is
        about to be taken counted in.
    carry : bool
        Whether a batch that is not fresh begins in the final state of the one before, instead of
        the empty state: back-propagation through time, truncated between the batches.
    clock : Callable[[], float]
        Seconds from any origin. With several ranks, that of rank 0 counts.
    **options
        ``max_norm``, ``accumulate``, ``recompute`` and ``comm`` of :func:`train_step`.

    Yields
    ------
    Progress
        One record per step.

    Raises
    ------
    NonFiniteError
        If the training diverges.
    OptionError
        If an argument is not as described: at once, not at the first step.
    """
    check_kind("state", state, TrainingState)
    check_kind("budget", budget, Budget)
    check_has("batches", batches, "__iter__")
    check_callable("schedule", schedule)
    check_callable("clock", clock)
    check_step_options(state.model, **options)
    clock = common_clock(clock, options.get("comm"))

    def steps() -> Iterator[Progress]:
        if budget.fraction(state.step, state.elapsed) >= 1:
            return
        start = clock() - state.elapsed
        for batch in batches:
            check_kind("batch", batch, Batch)
            began = clock()
            lr = state.optimizer.lr * schedule(budget.fraction(state.step + 1, began - start))
            before = state.carried if carry and not batch.fresh else None
            known: Any = {"lr": lr, "state": before, "rng": state.rng}
            try:
                result = train_step(state.model, state.optimizer, batch, **known, **options)
            except NonFiniteError as error:
                raise NonFiniteError(
                    f"training diverged at step {state.step + 1} ({error}); lower the learning rate"
                ) from error
            now = clock()
            after = result.state if carry else None
            state.advance(batch.inputs.size, now - began, now - start, after)
            fraction = budget.fraction(state.step, state.elapsed)
            counts = state.tokens, state.elapsed, state.busy
            yield Progress(state.step, fraction, result.loss, result.grad_norm, lr, *counts)
            if budget.fraction(state.step, clock() - start) >= 1:
                return

    return steps()
