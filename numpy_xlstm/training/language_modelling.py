"""Language modelling on a text, in bits per character: training with validations."""

import math
import time
from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np

from numpy_xlstm.layers import softmax_cross_entropy
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.models import RecurrentModel
from numpy_xlstm.numerics import check_callable, check_interval, check_kind, check_positive
from numpy_xlstm.training import ranks
from numpy_xlstm.training.loop import Budget, Progress, Schedule, constant, train
from numpy_xlstm.training.state import TrainingState
from numpy_xlstm.training.step import StepOptions
from numpy_xlstm.training.text import (
    NOTHING,
    TextSplit,
    consecutive_windows,
    parallel_rows,
    random_windows,
)


def validation_bits(
    model: RecurrentModel,
    ids: IndexArray,
    *,
    characters: int | None = None,
    rows: int = 32,
    window: int = 128,
    comm: ranks.Comm | None = None,
) -> float:
    r"""Bits per character over a whole sequence, the state carried from window to window.

    .. math:: \frac{1}{\ln 2} \cdot \frac{N}{\mathrm{characters}} \cdot
        \operatorname{mean}_t \big( -\ln P(k_t \mid k_{<t}) \big)

    Parameters
    ----------
    model : RecurrentModel
        Maps tokens (B, T) and a state to logits (B, T, V) and a state.
    ids : np.ndarray
        The sequence, shape (N,). Every id is predicted but the first of each row, which counts
        like the mean of the others.
    characters : int, optional
        How many characters of text it is; N if omitted.
    rows : int
        In how many rows the sequence is read side by side: more is faster, but each starts
        without context.
    window : int
        How many steps at once: more is faster and takes more memory, and the result is the same.
    comm : mpi4py.MPI.Comm, optional
        Ranks that share the rows.

    Raises
    ------
    ShapeError
        If there is nothing to predict.
    DTypeError, OptionError
        If an argument is not as described.
    """
    check_callable("model", model)
    check_positive("window", window)
    if characters is not None:
        check_positive("characters", characters)
    inputs, targets = parallel_rows(ids, rows)
    predicted = np.count_nonzero(targets != NOTHING)
    part = ranks.rank_rows(len(inputs), comm)
    nats = ranks.total(_nats(model, inputs[part], targets[part], window), comm)
    per_character = nats / predicted * len(ids) / (characters or len(ids))
    return per_character / math.log(2)  # [entropy.3]


def _nats(model: RecurrentModel, inputs: IndexArray, targets: IndexArray, window: int) -> float:
    """Sum of the losses over all targets, window by window; 0 if there are no rows."""
    state: Any = None
    nats = 0.0
    for start in range(0, inputs.shape[1] if len(inputs) else 0, window):
        part = slice(start, start + window)
        logits, state = model(inputs[:, part], state)
        if count := np.count_nonzero(targets[:, part] != NOTHING):
            loss, _ = softmax_cross_entropy(logits, targets[:, part], ignore_index=NOTHING)
            nats += float(loss) * count
    return nats


def learn(
    state: TrainingState,
    split: TextSplit,
    budget: Budget,
    *,
    batch_size: int,
    window: int,
    carry: bool = False,
    schedule: Schedule = constant,
    validate_every: int | None = None,
    validate_seconds: float = 15.0,
    clock: ranks.Clock = time.perf_counter,
    **options: Unpack[StepOptions],
) -> Iterator[Progress]:
    """Train a model on windows of a text, reporting every step.

    With a budget in steps and ``validate_every``, a training that is stored after any step and
    goes on later gives bit for bit the same records, but for their times, and the same model.

    Parameters
    ----------
    state : TrainingState
        The model and where its training stands; is changed in place.
    split : TextSplit
        The text.
    budget : Budget
        When to stop.
    batch_size, window : int
        Size of a batch, (B, T).
    carry : bool
        Whether to read the text in order, in B rows, each window in the state in which the one
        before ended; otherwise windows are drawn at random, and begin in the empty state.
    schedule, clock, **options
        As for :func:`train`.
    validate_every : int, optional
        Steps between two validations; they go by time if omitted. One comes at the end.
    validate_seconds : float
        Seconds between two validations; longer where one takes more than a tenth of that.

    Yields
    ------
    Progress
        One record per step.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        If an argument is not as described: at once, not at the first step.
    """
    check_kind("state", state, TrainingState)
    check_kind("split", split, TextSplit)
    if validate_every is not None:
        check_positive("validate_every", validate_every)
    check_interval("validate_seconds", validate_seconds)
    if carry:
        batches = consecutive_windows(split.train_ids, batch_size, window, state.step)
    else:
        batches = random_windows(split.train_ids, batch_size, window, state.rng)
    steps = train(state, batches, budget, schedule=schedule, carry=carry, clock=clock, **options)
    comm = options.get("comm")
    now = ranks.common_clock(clock, comm)
    tokens_per_character = len(split.train_ids) / len(split.train)
    known: Any = {"characters": len(split.validation), "comm": comm}

    def records() -> Iterator[Progress]:
        due = now() + validate_seconds
        for progress in steps:
            bits, began = None, now()
            is_due = began >= due if validate_every is None else not progress.step % validate_every
            if is_due or progress.fraction >= 1:
                bits = validation_bits(state.model, split.validation_ids, **known)
                state.validations.append((progress.step, bits))
                ended = now()
                due = ended + max(validate_seconds, 10 * (ended - began))
            yield progress._replace(tokens_per_character=tokens_per_character, validation=bits)

    return records()
