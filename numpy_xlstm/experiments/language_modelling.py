"""Language modelling in bits per character: build a model, train it on a text, validate it."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers import LSTM, mLSTM, sLSTM
from numpy_xlstm.errors import OptionError
from numpy_xlstm.experiments.text import TextSplit
from numpy_xlstm.experiments.windows import (
    NOTHING,
    consecutive_windows,
    parallel_rows,
    random_windows,
)
from numpy_xlstm.layers import softmax_cross_entropy
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.models import LanguageModel, RecurrentModel
from numpy_xlstm.numerics import (
    check_callable,
    check_choice,
    check_interval,
    check_kind,
    check_positive,
)
from numpy_xlstm.training import Budget, Progress, TrainingState, Workers, constant, train
from numpy_xlstm.training.schedules import Schedule


class CellKind(NamedTuple):
    """A cell to build a model with."""

    layer: Callable[..., Any]
    options: tuple[str, ...]
    """Which of the options it takes that not all cells have."""


CELLS = {
    "lstm": CellKind(LSTM, ()),
    "slstm": CellKind(sLSTM, ("num_heads", "forget_gate")),
    "mlstm": CellKind(mLSTM, ("num_heads", "forget_gate", "input_gate")),
}
"""The cells by name."""


def build_model(
    cell: str,
    vocab_size: int,
    *,
    embedding_size: int,
    hidden_size: int,
    dtype: npt.DTypeLike = np.float64,
    rng: np.random.Generator | None = None,
    **options: Any,
) -> LanguageModel:
    """Build embedding, cell and head.

    Parameters
    ----------
    cell : str
        ``"lstm"``, ``"slstm"`` or ``"mlstm"``.
    vocab_size, embedding_size, hidden_size : int
        Number of tokens, width of their vectors, width of the cell.
    dtype : dtype
        The dtype of everything.
    rng : np.random.Generator, optional
        Draws all parameters.
    **options
        ``num_heads``, ``forget_gate``, ``input_gate`` as the cell takes them; ``None`` leaves the
        cell's default.

    Raises
    ------
    OptionError
        If the cell is unknown or has no such option, or an option is out of range.

    Examples
    --------
    >>> model = build_model("slstm", 10, embedding_size=4, hidden_size=8, num_heads=2)
    >>> model.params["head.weight"].shape
    (10, 8)
    """
    layer, known = CELLS[check_choice("cell", cell, CELLS)]
    given = {name: value for name, value in options.items() if value is not None}
    if foreign := [name for name in given if name not in known]:
        expected = f"only {', '.join(known)}" if known else "none of its own"
        raise OptionError(f"options of {cell}: expected {expected}; got {', '.join(foreign)}")
    built = layer(embedding_size, hidden_size, dtype=dtype, rng=rng, **given)
    return LanguageModel(vocab_size, embedding_size, built, rng=rng)


def validation_bits(
    model: RecurrentModel,
    ids: IndexArray,
    *,
    characters: int | None = None,
    rows: int = 32,
    window: int = 128,
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
    state: Any = None
    nats = 0.0
    for start in range(0, inputs.shape[1], window):
        part = slice(start, start + window)
        logits, state = model(inputs[:, part], state)
        if count := np.count_nonzero(targets[:, part] != NOTHING):
            loss, _ = softmax_cross_entropy(logits, targets[:, part], ignore_index=NOTHING)
            nats += float(loss) * count
    per_token = nats / np.count_nonzero(targets != NOTHING)
    per_character = per_token * len(ids) / (len(ids) if characters is None else characters)
    return per_character / math.log(2)  # [entropy.3]


class Record(NamedTuple):
    """The progress of training, with a validation now and then."""

    progress: Progress
    validation: float | None
    """Validation bits per character if they have just been measured."""
    tokens_per_character: float = 1.0
    """Of the training part."""

    @property
    def bits(self) -> float:
        """The step's loss in bits per character."""
        return self.progress.loss * self.tokens_per_character / math.log(2)


def learn(
    state: TrainingState,
    split: TextSplit,
    budget: Budget,
    *,
    batch_size: int,
    window: int,
    carry: bool = False,
    max_norm: float = 1.0,
    schedule: Schedule = constant,
    accumulate: int = 1,
    recompute: bool = False,
    workers: Workers | None = None,
    validate_every: int | None = None,
    validate_seconds: float = 15.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Record]:
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
    max_norm, schedule, accumulate, recompute, workers
        As for :func:`train`.
    validate_every : int, optional
        Steps between two validations; they go by time if omitted. One comes at the end.
    validate_seconds : float
        Seconds between two validations; longer where one takes more than a tenth of that.
    clock : Callable[[], float]
        Seconds from any origin.

    Yields
    ------
    Record
        One per step.

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
    ids, held_out = split.train_ids, split.validation_ids
    if carry:
        batches = consecutive_windows(ids, batch_size, window, state.step)
    else:
        batches = random_windows(ids, batch_size, window, state.rng)
    steps = train(
        state,
        batches,
        budget,
        schedule=schedule,
        max_norm=max_norm,
        carry=carry,
        accumulate=accumulate,
        workers=workers,
        recompute=recompute,
        clock=clock,
    )

    def validation() -> float:
        return validation_bits(state.model, held_out, characters=len(split.validation))

    return _validated(
        steps,
        state,
        validation,
        len(ids) / len(split.train),
        validate_every,
        validate_seconds,
        clock,
    )


def _validated(
    steps: Iterator[Progress],
    state: TrainingState,
    validation: Callable[[], float],
    tokens_per_character: float,
    validate_every: int | None,
    validate_seconds: float,
    clock: Callable[[], float],
) -> Iterator[Record]:
    """Take the steps of :func:`learn`, with a validation where one is due."""
    due = clock() + validate_seconds
    for progress in steps:
        bits, began = None, clock()
        by_steps = validate_every is not None and progress.step % validate_every == 0
        by_time = validate_every is None and began >= due
        if by_steps or by_time or progress.fraction >= 1:
            bits = validation()
            state.validations.append((progress.step, bits))
            now = clock()
            due = now + max(validate_seconds, 10 * (now - began))
        yield Record(progress, bits, tokens_per_character)
