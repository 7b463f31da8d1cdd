"""One training step: forward, backward, clip, update, over the batch at once or in parts."""

from collections.abc import Iterator
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers import softmax_cross_entropy, softmax_cross_entropy_backward
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.layers.loss import BoolArray
from numpy_xlstm.models.protocols import RecurrentModel
from numpy_xlstm.numerics import Array, check_positive
from numpy_xlstm.training.clipping import clip_grad_norm
from numpy_xlstm.training.optimizers import AdamW
from numpy_xlstm.trees import join_states, tree_map


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
        less memory. Not every model can.
    rng : np.random.Generator, optional
        What a model that has a ``dropout`` above 0 draws from; nothing is dropped if omitted.

    Raises
    ------
    NonFiniteError
        If the gradients are not finite; nothing has been updated then.
    OptionError
        If there are fewer rows than parts.
    ShapeError
        If no target counts.

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
    options: dict[str, Any] = {"recompute": True} if recompute else {}
    if rng is not None and getattr(model, "dropout", 0) > 0:
        options["rng"] = rng
    with np.errstate(over="ignore", invalid="ignore"):  # they end in a NonFiniteError
        loss, grads, after = _gradient(model, batch, state, accumulate, options)
        clipped, norm = clip_grad_norm(grads, max_norm)
        optimizer.step(model.params, clipped, lr)
    return StepResult(loss, norm, after)


def _gradient(
    model: RecurrentModel, batch: Batch, state: Any, accumulate: int, options: dict[str, Any]
) -> tuple[float, dict[str, Array], Any]:
    """Mean loss over the batch, its gradient, and the state after it, part by part."""
    loss, grads, states, total = 0.0, dict[str, Array](), [], _count(batch)
    for part, before in _parts(batch, state, accumulate):
        logits, after, cache = model.forward(part.inputs, before, **options)
        states.append(after)
        count = _count(part)
        if total and not count:
            continue
        part_loss, loss_cache = softmax_cross_entropy(logits, part.targets, mask=part.mask)
        dlogits = softmax_cross_entropy_backward(count / total, loss_cache)
        _, _, new = model.backward(dlogits, cache)
        loss += count / total * float(part_loss)
        grads = {name: grads[name] + grad for name, grad in new.items()} if grads else new
    return loss, grads, states[0] if accumulate == 1 else join_states(states)


def _count(batch: Batch) -> int:
    """How many targets count."""
    return batch.targets.size if batch.mask is None else int(np.count_nonzero(batch.mask))


def _parts(batch: Batch, state: Any, accumulate: int) -> Iterator[tuple[Batch, Any]]:
    """Cut a batch and the state before it into parts of nearly as many rows each."""
    rows = len(batch.inputs)
    if check_positive("accumulate", accumulate) > rows:
        raise OptionError(f"accumulate: expected at most {rows}, the rows; got {accumulate}")
    ends = [rows * part // accumulate for part in range(accumulate + 1)]
    for start, stop in pairwise(ends):
        part = slice(start, stop)
        mask = None if batch.mask is None else batch.mask[part]
        before = tree_map(itemgetter(part), state)
        yield Batch(batch.inputs[part], batch.targets[part], mask, batch.fresh), before
