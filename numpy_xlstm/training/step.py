"""One training step: forward, backward, clip, update, over the batch at once or in parts."""

from collections.abc import Iterator
from inspect import signature
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import numpy as np

from numpy_xlstm.errors import DTypeError, OptionError, ShapeError
from numpy_xlstm.layers import softmax_cross_entropy, softmax_cross_entropy_backward
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.layers.loss import BoolArray, check_mask
from numpy_xlstm.models.protocols import RecurrentModel
from numpy_xlstm.numerics import (
    Array,
    check_above_zero,
    check_generator,
    check_has,
    check_kind,
    check_positive,
)
from numpy_xlstm.training.clipping import clip_grad_norm
from numpy_xlstm.training.optimizers import AdamW
from numpy_xlstm.trees import join_states, leaves, tree_map


class Batch(NamedTuple):
    """Tokens and what follows each of them."""

    inputs: IndexArray
    """Ids, shape (B, T)."""
    targets: IndexArray
    """Ids, shape (B, T)."""
    mask: BoolArray | None = None
    """Which targets count, shape (B, T); all if omitted."""
    fresh: bool = True
    """Whether the rows begin anew here, instead of where those of the batch before ended."""

    @property
    def num_targets(self) -> int:
        """How many targets count."""
        return self.targets.size if self.mask is None else int(np.count_nonzero(self.mask))


class GradientWorkers(Protocol):
    """What computes the gradient of a batch instead of this process."""

    def gradient(
        self,
        model: RecurrentModel,
        batch: Batch,
        state: Any,
        *,
        accumulate: int,
        recompute: bool,
        rng: np.random.Generator | None,
    ) -> tuple[float, dict[str, Array], Any]:
        """Mean loss over the batch, its gradient, and the state after it."""


class StepResult(NamedTuple):
    """What a training step found before it updated the parameters."""

    loss: float
    """Mean loss in nats per token."""
    grad_norm: float
    """Norm of the gradients before clipping."""
    state: Any = None
    """State of the model after the batch."""


def train_step(
    model: RecurrentModel,
    optimizer: AdamW,
    batch: Batch,
    *,
    lr: float | None = None,
    max_norm: float = float("inf"),
    state: Any = None,
    accumulate: int = 1,
    recompute: bool = False,
    rng: np.random.Generator | None = None,
    workers: GradientWorkers | None = None,
) -> StepResult:
    """Forward, backward, clip, update: changes the model's parameters and the moments in place.

    Parameters
    ----------
    model : RecurrentModel
        Maps tokens (B, T) to logits (B, T, V).
    optimizer : AdamW
        Made from this model's ``params``.
    batch : Batch
        Inputs and targets, (B, T). The loss is the mean over all targets that count.
    lr : float, optional
        Learning rate of this step, if not the optimiser's.
    max_norm : float
        The norm to clip the gradients to.
    state : optional
        State of the model before the batch, a constant: no gradient goes into it. The empty state
        if omitted.
    accumulate : int
        In how many parts the rows of the batch are learned from one after the other: the gradient
        is the same, and only one part is in memory at once.
    recompute : bool
        Whether the model's forward is told to ``recompute`` in the backward what it can, to need
        less memory. A :class:`LanguageModel` cannot, which is an error.
    rng : np.random.Generator, optional
        What a model that has a ``dropout`` above 0 draws from; nothing is dropped if omitted.
    workers : Workers, optional
        Processes that compute the gradient together.

    Raises
    ------
    NonFiniteError
        If the gradients are not finite; nothing has been updated then.
    OptionError
        If there are fewer rows than parts, or an argument is of another kind.
    ShapeError
        If no target counts, or targets, mask or state are not for the rows of the inputs.
    DTypeError, IndexError
        If inputs or targets are not ids below V.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import LSTM
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
    check_has("model", model, "forward", "backward")
    check_has("optimizer", optimizer, "step")
    check_generator("rng", rng)
    check_step_options(model, max_norm, accumulate, recompute, workers)
    check_batch_and_state(batch, state)
    drawn = rng if rng is not None and getattr(model, "dropout", 0) > 0 else None
    with np.errstate(over="ignore", invalid="ignore"):  # they end in a NonFiniteError
        if workers is None:
            loss, grads, after = gradient(
                model, batch, state, batch.num_targets, accumulate, recompute, drawn
            )
        else:
            loss, grads, after = workers.gradient(
                model, batch, state, accumulate=accumulate, recompute=recompute, rng=drawn
            )
        clipped, norm = clip_grad_norm(grads, max_norm)
        optimizer.step(model.params, clipped, lr)
    return StepResult(loss, norm, after)


def check_step_options(
    model: RecurrentModel,
    max_norm: float,
    accumulate: int,
    recompute: bool,
    workers: GradientWorkers | None,
) -> None:
    """Raise :class:`OptionError` if one of the options of :func:`train_step` is not for it."""
    check_above_zero("max_norm", max_norm, infinite=True)
    check_positive("accumulate", accumulate)
    check_recompute(model, recompute)
    if workers is not None:
        check_has("workers", workers, "gradient")


def check_recompute(model: RecurrentModel, recompute: bool) -> None:
    """Raise :class:`OptionError` if the model is to recompute and cannot."""
    if recompute and not _can_recompute(model):
        raise OptionError(f"recompute: expected a model that can; got a {type(model).__name__}")


def _can_recompute(model: RecurrentModel) -> bool:
    options = signature(model.forward).parameters.values()
    return any(o.name == "recompute" or o.kind is o.VAR_KEYWORD for o in options)


def check_batch_and_state(batch: Any, state: Any) -> None:
    """Raise an error unless inputs, targets, mask and state are for the same rows and steps."""
    check_kind("batch", batch, Batch)
    inputs = batch.inputs
    for name, array in (("inputs", inputs), ("targets", batch.targets)):
        if not isinstance(array, np.ndarray) or array.ndim != 2:
            got = getattr(array, "shape", type(array).__name__)
            raise ShapeError(f"{name}: expected an array of ids (B, T); got {got}")
        if array.dtype.kind not in "iu":
            raise DTypeError(f"{name}: expected an array of integers; got {array.dtype}")
        if array.shape != inputs.shape:
            raise ShapeError(f"{name}: expected shape {inputs.shape}; got {array.shape}")
    if batch.mask is not None:
        check_mask(batch.mask, inputs.shape)
    for name, array in leaves("state", state):
        if array.shape[:1] != inputs.shape[:1]:
            raise ShapeError(
                f"{name}: expected {len(inputs)} rows, as the batch has; got shape {array.shape}"
            )


def gradient(
    model: RecurrentModel,
    batch: Batch,
    state: Any,
    total: int,
    accumulate: int,
    recompute: bool,
    rng: np.random.Generator | None,
) -> tuple[float, dict[str, Array], Any]:
    """What a batch adds to the mean loss over ``total`` targets, its gradient, and the state."""
    loss, grads, states = 0.0, dict[str, Array](), []
    for part, before in cut_rows("accumulate", batch, state, accumulate):
        part_loss, new, after = part_gradient(model, part, before, total, recompute, rng)
        loss += part_loss
        states.append(after)
        if grads and new:
            grads = {name: grads[name] + grad for name, grad in new.items()}
        grads = grads or new
    return loss, grads, states[0] if accumulate == 1 else join_states(states)


def part_gradient(
    model: RecurrentModel,
    part: Batch,
    state: Any,
    total: int,
    recompute: bool,
    rng: np.random.Generator | None,
) -> tuple[float, dict[str, Array], Any]:
    """What some rows add to the mean loss over ``total`` targets, its gradient and the state.

    Rows without a target that counts have no gradient, unless the whole batch has none, which is
    an error.
    """
    options: dict[str, Any] = {"recompute": True} if recompute else {}
    if rng is not None:
        options["rng"] = rng
    logits, after, cache = model.forward(part.inputs, state, **options)
    if total and not part.num_targets:
        return 0.0, {}, after
    loss, loss_cache = softmax_cross_entropy(logits, part.targets, mask=part.mask)
    share = part.num_targets / total
    _, _, grads = model.backward(softmax_cross_entropy_backward(share, loss_cache), cache)
    return share * float(loss), grads, after


def cut_rows(name: str, batch: Batch, state: Any, parts: int) -> Iterator[tuple[Batch, Any]]:
    """Cut a batch and the state before it into parts of nearly as many rows each."""
    rows = len(batch.inputs)
    if check_positive(name, parts) > rows:
        raise OptionError(f"{name}: expected at most {rows}, the rows; got {parts}")
    for start, stop in pairwise(rows * part // parts for part in range(parts + 1)):
        part = slice(start, stop)
        mask = None if batch.mask is None else batch.mask[part]
        before = tree_map(itemgetter(part), state)
        yield Batch(batch.inputs[part], batch.targets[part], mask, batch.fresh), before
