"""The training loop, its budget, validation, and training on a text."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

import numpy as np

from numpy_xlstm.errors import DivergenceError, NonFiniteError, OptionError, TextError
from numpy_xlstm.generation import Tokenizer
from numpy_xlstm.generation.generate import check_width
from numpy_xlstm.layers import Recurrent, softmax_cross_entropy
from numpy_xlstm.layers.embedding import IndexArray
from numpy_xlstm.numerics import (
    check_callable,
    check_form,
    check_has,
    check_kind,
    checked_above_zero,
    checked_bool,
    checked_positive,
)
from numpy_xlstm.training import ranks, text
from numpy_xlstm.training.optimizer import Schedule, constant, diverged
from numpy_xlstm.training.state import TrainingState
from numpy_xlstm.training.step import Batch, StepOptions, check_step_options, train_step


class Progress(NamedTuple):
    """Report of a training after a step. Counts and times are those of :class:`TrainingState`."""

    step: int
    fraction: float
    """Used fraction of the budget after the step, at most 1."""
    loss: float
    """Mean loss of the step's batch: nats per token, or the squared error."""
    grad_norm: float
    """Norm of the gradients before clipping."""
    lr: float
    tokens: int
    elapsed: float
    tokens_per_character: float = 1.0
    validation: float | None = None
    """Result of a validation after this step, if there was one; lower is better."""
    validation_seconds: float = 0.0
    """Time of this validation, which does not count as elapsed."""

    @property
    def bits(self) -> float:
        """The step's loss in bits per character."""
        return self.loss * self.tokens_per_character / math.log(2)

    @property
    def tokens_per_second(self) -> float:
        """Mean speed since the start."""
        return self.tokens / self.elapsed if self.elapsed else 0.0

    @property
    def seconds_left(self) -> float:
        """Estimated time to the end of the training."""
        return self.elapsed * (1 / self.fraction - 1) if self.fraction else 0.0


@dataclass(frozen=True)
class Budget:
    """Length of a training in ``steps``, ``seconds``, or both, whichever ends first.

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
            checked_positive("steps", self.steps)
        if self.seconds is not None:
            checked_above_zero("seconds", self.seconds)

    def fraction(self, step: int, elapsed: float) -> float:
        """Return the used fraction of the budget, at most 1."""
        return min(1.0, max(step / (self.steps or math.inf), elapsed / (self.seconds or math.inf)))


def train(
    state: TrainingState,
    batches: Iterable[Batch],
    budget: Budget,
    *,
    schedule: Schedule = constant,
    carry: bool = False,
    validate: Callable[[Progress], float | None] = lambda progress: None,
    **options: Unpack[StepOptions],
) -> Iterator[Progress]:
    """Train until the budget or the batches are used up, and yield a report after every step.

    At each report ``state`` is the state after the step. If it is saved then and loaded later, the
    training continues identically, provided that the budget is in steps and the batches depend on
    ``state.rng`` and ``state.step`` only.

    The clock starts at the end of the first step, which may compile kernels, and stands still
    during validations. The caller's work between two reports counts.

    Parameters
    ----------
    state : TrainingState
        State of the training, including model, optimiser and generator. It is modified in place.
    batches : Iterable[Batch]
        One batch per step, starting with the next step.
    budget : Budget
        Length of the training, including earlier steps and time.
    schedule : Schedule
        Factor of the optimiser's learning rate as a function of the used fraction of the budget,
        which includes the step about to be taken.
    carry : bool
        Whether a batch that is not fresh starts from the final state of the previous batch, rather
        than from the empty state: truncated back-propagation through time.
    validate : Callable[[Progress], float or None]
        Function that is called with each report, and returns the result of a validation, which the
        report then contains, or None for no validation.
    **options
        ``max_norm``, ``accumulate`` and ``comm`` of :func:`train_step`.

    Raises
    ------
    DivergenceError
        If the training diverges. Then ``state``, including its generator, is that before the step
        that diverged. The training can be resumed from it, for example with another learning rate.
    """
    check_kind("state", state, TrainingState)
    check_kind("budget", budget, Budget)
    check_callable("schedule", schedule)
    checked_bool("carry", carry)
    check_callable("validate", validate)
    check_step_options(state.model, **options)
    check_has("batches", batches, "__iter__")
    comm, optimizer = options.get("comm"), state.optimizer
    numbers = {name: value for name, value in options.items() if name != "comm"}
    facts = budget, carry, optimizer.options, numbers, state.step, state.rng.bit_generator.state
    parameters = {**state.model.params, **optimizer.state_dict()}
    ranks.check_same(comm, options=facts, parameters=parameters)

    def reports() -> Iterator[Progress]:
        if budget.fraction(state.step, state.elapsed) >= 1:
            return
        before_batch, elapsed = state.rng.bit_generator.state, state.elapsed
        origin: float | None = None  # the time at which the clock of the training shows 0
        for batch in batches:
            check_kind("batch", batch, Batch)
            lr = state.optimizer.lr * schedule(budget.fraction(state.step + 1, elapsed))
            before = state.carried if carry and not batch.fresh else None
            known: Any = {"lr": lr, "state": before, "rng": state.rng}
            try:
                result = train_step(state.model, state.optimizer, batch, **known, **options)
            except DivergenceError:
                state.rng.bit_generator.state = before_batch  # undo the draws of the step
                raise
            now = ranks.seconds(comm)
            if origin is None:  # the first step compiles kernels, and is off the clock
                origin = now - state.elapsed
            state.advance(batch.targets.size, now - origin, result.state if carry else None)
            fraction = budget.fraction(state.step, state.elapsed)
            counts = state.tokens, state.elapsed
            progress = Progress(state.step, fraction, result.loss, result.grad_norm, lr, *counts)
            if (value := validate(progress)) is not None:
                took = ranks.seconds(comm) - now
                progress = progress._replace(validation=value, validation_seconds=took)
                origin += took  # off the clock, too
            yield progress
            elapsed = ranks.seconds(comm) - origin
            if budget.fraction(state.step, elapsed) >= 1:
                return
            before_batch = state.rng.bit_generator.state

    return reports()


def validation_bits(
    model: Recurrent,
    ids: IndexArray,
    *,
    characters: int | None = None,
    rows: int = 32,
    window: int = 128,
    carry: bool = True,
    progress: Callable[[int, int], None] | None = None,
    comm: ranks.Comm | None = None,
) -> float:
    r"""Return the bits per character of a sequence.

    .. math:: \frac{1}{\ln 2} \cdot \frac{N}{\mathrm{characters}} \cdot
        \operatorname{mean}_t \big( -\ln P(k_t \mid k_{<t}) \big)

    Parameters
    ----------
    model : Recurrent
        Model that maps tokens (B, T) and a state to logits (B, T, V) and a state.
    ids : np.ndarray
        The sequence, shape (N,), with N ≥ 2, which :func:`consecutive_windows` splits. The first id
        and up to B − 1 of the last are not predicted; they count as the mean of the others.
    characters : int, optional
        Number of characters of the text; N if omitted.
    rows : int
        Largest number B of rows into which the sequence is split, each without context at its
        start.
    window : int
        Largest number of steps per call, which does not change the result if the state is carried.
    carry : bool
        Whether the state is carried between the windows of a row. Otherwise each window starts from
        the empty state.
    progress : callable, optional
        Function that is called after each window with the numbers of ids predicted and of all.
    comm : mpi4py.MPI.Comm, optional
        Ranks that share the rows.
    """
    check_callable("model", model)
    check_form("ids", ids, ("N",), "integers")
    checked_positive("rows", rows)
    checked_bool("carry", carry)
    if progress is not None:
        check_callable("progress", progress)
    if characters is not None:
        checked_positive("characters", characters)
    nats, predicted, state = 0.0, 0, None
    windows = text.consecutive_windows(ids, max(1, min(rows, len(ids) // 2)), window)
    for number, batch in enumerate(windows):
        if number > 0 and batch.fresh:  # the next pass
            break
        predicted += batch.num_targets
        part = batch.rows(ranks.rank_rows(len(batch.inputs), comm))
        if part.num_targets > 0:
            logits, state = model(part.inputs, state if carry else None)
            loss, _ = softmax_cross_entropy(logits, part.targets)
            nats += float(loss) * part.num_targets
        if progress is not None:
            progress(predicted, len(ids))
    per_character = ranks.total(nats, comm) / predicted * len(ids) / (characters or len(ids))
    return per_character / math.log(2)  # [entropy.3]


class Evaluation(NamedTuple):
    """Result of :func:`evaluate`."""

    characters: int
    tokens: int
    rows: int
    """Number of rows into which the text was split."""
    bits_per_character: float
    bits_per_token: float
    perplexity: float
    """2 to the power of the bits per token."""


def evaluate(
    model: Recurrent, tokenizer: Tokenizer, text: str, *, rows: int = 32, **options: Any
) -> Evaluation:
    """Measure how well a language model predicts a text.

    For the held-out text of a training, the bits per character are those of its validations.

    Parameters
    ----------
    model, tokenizer
        As in :func:`generate_text`.
    text : str
        Text.
    rows : int
        Largest number of rows into which the text is split, each without context at its start.
    **options
        ``window``, ``carry`` and ``progress`` of ``training.validation_bits``.

    Returns
    -------
    Evaluation
        Bits per character and per token, perplexity, and the numbers that they refer to.

    Raises
    ------
    TextError
        If the text has fewer than two tokens.

    Examples
    --------
    >>> from numpy_xlstm import LSTM, ByteTokenizer, LanguageModel
    >>> model = LanguageModel(256, 4, LSTM(4, 8, rng=0), rng=0)
    >>> result = evaluate(model, ByteTokenizer(), "né " * 50)
    >>> result.characters, result.tokens, result.rows, 7.9 < result.bits_per_token < 8.1
    (150, 200, 32, True)
    """
    check_has("tokenizer", tokenizer, "encode", "decode")
    check_width(getattr(model, "vocab_size", tokenizer.size), tokenizer.size)
    ids = tokenizer.encode(text)
    if len(ids) < 2:
        raise TextError(f"text: expected at least 2 tokens; got {len(ids)}")
    rows = min(checked_positive("rows", rows), len(ids) // 2)
    bits = validation_bits(model, ids, characters=len(text), rows=rows, **options)
    per_token = bits * len(text) / len(ids)
    perplexity = 2**per_token if per_token < sys.float_info.max_exp else math.inf
    return Evaluation(len(text), len(ids), rows, bits, per_token, perplexity)


def learn(
    state: TrainingState,
    split: text.TextSplit,
    budget: Budget,
    *,
    batch_size: int,
    window: int,
    carry: bool = False,
    schedule: Schedule = constant,
    validate_every: int | None = None,
    patience: int | None = None,
    **options: Unpack[StepOptions],
) -> Iterator[Progress]:
    """Train a model on windows of a text with :func:`train`, and validate it.

    With a budget in steps and ``validate_every``, a training that is saved after any step and
    resumed later gives bit for bit the same model, and the same reports except for their times.

    Parameters
    ----------
    state, budget, schedule, **options
        As in :func:`train`.
    split : TextSplit
        The text.
    batch_size, window : int
        Size B and T of a batch.
    carry : bool
        Whether to read the text in order, in B rows, with each window starting from the final state
        of the previous one. Otherwise windows are random and start from the empty state.
    validate_every : int, optional
        Steps between two validations. If omitted, there is one after each twentieth of the budget,
        but not before the training has read two and a half times as many tokens as a validation
        reads, so that validations take less than a fifth of the time. There is always a validation
        after a step that uses up the budget.
    patience : int, optional
        Number of validations in a row without a new best, also before a resume, that end the
        training before the budget.
    """
    check_kind("state", state, TrainingState)
    check_kind("split", split, text.TextSplit)
    for name, count in {"validate_every": validate_every, "patience": patience}.items():
        if count is not None:
            checked_positive(name, count)
    checked_bool("carry", carry)
    comm = options.get("comm")
    texts = {"train": split.train_ids, "validation": split.validation_ids}
    ranks.check_same(comm, options=(batch_size, window, validate_every, patience), text=texts)
    if carry:
        batches = text.consecutive_windows(split.train_ids, batch_size, window, state.step)
    else:
        batches = text.random_windows(split.train_ids, batch_size, window, state.rng)
    tokens_per_character = len(split.train_ids) / len(split.train)
    least = math.ceil(2.5 * len(split.validation_ids) / (batch_size * window))
    check_kind("budget", budget, Budget)
    twentieths = int(20 * budget.fraction(state.step, state.elapsed))

    def validate(progress: Progress) -> float | None:
        nonlocal twentieths
        before, twentieths = twentieths, int(20 * progress.fraction)
        last = state.validations[-1][0] if state.validations else 0
        is_due = twentieths > before and state.step - last >= least
        if validate_every is not None:
            is_due = progress.step % validate_every == 0
        if not is_due and progress.fraction < 1:
            return None
        ids, characters = split.validation_ids, len(split.validation)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # reported as a DivergenceError
                bits = validation_bits(state.model, ids, characters=characters, comm=comm)
        except NonFiniteError as error:
            reason = f"validation after step {state.step}: {error}"
            raise diverged(state.optimizer, reason, None) from error
        state.validations.append((state.step, bits))
        return bits

    known: Any = {"schedule": schedule, "carry": carry, "validate": validate, **options}
    reports = train(state, batches, budget, **known)

    def until_patience_ends() -> Iterator[Progress]:
        while not state.is_stale(patience) and (report := next(reports, None)) is not None:
            yield report._replace(tokens_per_character=tokens_per_character)

    return until_patience_ends()
