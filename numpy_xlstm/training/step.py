"""One training step: forward, backward, clip, update, over the whole batch or in parts."""

import math
from typing import Any, NamedTuple, TypedDict

import numpy as np

from numpy_xlstm.errors import DivergenceError, NonFiniteError, OptionError, ShapeError
from numpy_xlstm.layers import Recurrent, softmax_cross_entropy, softmax_cross_entropy_backward
from numpy_xlstm.layers.embedding import IndexArray
from numpy_xlstm.layers.loss import BoolArray
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_form,
    check_generator,
    check_has,
    check_kind,
    checked_above_zero,
    checked_bool,
    checked_positive,
)
from numpy_xlstm.numerics.memory import keep_freed_memory
from numpy_xlstm.numerics.threads import spread
from numpy_xlstm.training import ranks
from numpy_xlstm.training.clipping import TINY, clip_factor, scaled
from numpy_xlstm.training.optimizer import Optimizer, diverged
from numpy_xlstm.trees import join_states, leaves, rows_of
from numpy_xlstm.validation import checked_like


class Batch(NamedTuple):
    """Inputs of a model, and the target of each step.

    Targets that are ids, (B, T), are classes, such as the next tokens, and the loss is the
    cross-entropy of logits (B, T, V). Targets that are floats, (B, T), are values, and the loss is
    the squared error of outputs (B, T, 1).
    """

    inputs: IndexArray | Array
    """Ids of tokens, shape (B, T), or points, floats of shape (B, T, D)."""
    targets: IndexArray | Array
    mask: BoolArray | None = None
    """Booleans, shape (B, T): whether a target counts. All count if omitted."""
    fresh: bool = True
    """Whether the rows start here, rather than continue those of the previous batch."""

    @property
    def num_targets(self) -> int:
        """Number of targets that count."""
        return self.targets.size if self.mask is None else int(np.count_nonzero(self.mask))

    def rows(self, part: slice) -> "Batch":
        """Return some rows of the batch."""
        mask = None if self.mask is None else self.mask[part]
        return self._replace(inputs=self.inputs[part], targets=self.targets[part], mask=mask)


class StepOptions(TypedDict, total=False):
    """Options of :func:`train_step`."""

    max_norm: float
    accumulate: int
    comm: ranks.Comm | None


class StepResult(NamedTuple):
    """Results of a training step, computed with the parameters before the update."""

    loss: float
    """Mean loss over the targets: nats per token, or the squared error."""
    grad_norm: float
    """Norm of the gradients before clipping."""
    state: Any = None
    """State of the model after the batch, for the rows of this rank."""


def train_step(
    model: Recurrent,
    optimizer: Optimizer,
    batch: Batch,
    *,
    lr: float | None = None,
    max_norm: float = float("inf"),
    state: Any = None,
    accumulate: int = 1,
    rng: np.random.Generator | None = None,
    comm: ranks.Comm | None = None,
) -> StepResult:
    """Run forward, backward, clipping and update; modify parameters and moments in place.

    On Linux, the process keeps up to 512 MiB of the memory that a step frees, for the next one.

    Parameters
    ----------
    model : Recurrent
        Model that maps tokens (B, T) to logits (B, T, V), or inputs (B, T, D) to outputs (B, T, 1).
    optimizer : Optimizer
        Optimiser made from this model's ``params``.
    batch : Batch
        Inputs and targets. The loss is the mean over all targets that count.
    lr, max_norm : float
        Learning rate, by default the optimiser's, and largest norm of the gradients.
    state : optional
        State of the model before the batch; the empty state if omitted. No gradient flows into it.
    accumulate : int
        Number of parts into which the rows are split. Only one part is in memory at a time; the
        gradient is the same.
    rng : np.random.Generator, optional
        Generator for the dropout of the model. If omitted, nothing is dropped.
    comm : mpi4py.MPI.Comm, optional
        Ranks that take the step together. Each rank passes the same model, optimiser, batch and
        generator, and the state of its own rows: of B rows, rank r of N has those from B·r // N to
        B·(r + 1) // N. All ranks get the same parameters. Without dropout, these equal those of a
        single process up to rounding.

    Returns
    -------
    StepResult
        The mean loss, the norm of the gradients before clipping, and the state after the batch.

    Raises
    ------
    DivergenceError
        If the loss, the gradients, the state, or the updated parameters are not finite. Then
        nothing is updated.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import LSTM, AdamW, LanguageModel
    >>> rng = np.random.default_rng(0)
    >>> model = LanguageModel(3, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> optimizer = AdamW(model.params, lr=0.02)
    >>> text = np.array([[0, 1, 2] * 8])
    >>> batch = Batch(text[:, :-1], text[:, 1:])
    >>> losses = [train_step(model, optimizer, batch).loss for _ in range(60)]
    >>> losses[0] > 1.0 and losses[-1] < 0.1
    True
    """
    keep_freed_memory()
    check_step_options(model, max_norm, accumulate, comm)
    check_generator("rng", rng)
    check_has("optimizer", optimizer, "step")
    params = getattr(optimizer, "params", {})
    if any(params.get(name) is not array for name, array in model.params.items()):
        expected = "one made from the params of this model"
        raise OptionError(f"optimizer: expected {expected}; got one of other arrays")
    rows = _rows(batch, state, accumulate, comm)
    options: dict[str, Any] = {}
    if rng is not None and getattr(model, "dropout", 0) > 0:
        options["rng"] = ranks.rank_generator(rng, comm)
    given = rows, state, batch.num_targets, accumulate, options
    with np.errstate(over="ignore", invalid="ignore"):  # reported as a DivergenceError
        try:
            loss, grads, after = _gradient_over_ranks(comm, model, *given)
            factor, norm = clip_factor(grads, max_norm)
            if factor < TINY:
                grads, factor = scaled(grads, factor), 1.0
            optimizer.step(grads, lr=lr, scale=factor)
        except DivergenceError:
            raise
        except NonFiniteError as error:
            checked_like("state", state, state)  # a non-finite state of the caller is no divergence
            raise diverged(optimizer, error, lr) from error
    return StepResult(loss, norm, after)


def _gradient_over_ranks(
    comm: ranks.Comm | None, model: Recurrent, *given: Any
) -> tuple[float, dict[str, Array], Any]:
    """Sum :func:`_gradient` over all ranks. A non-finite one on any rank is an error on all."""
    loss, grads, after = math.nan, dict[str, Array](), None
    reason = NonFiniteError("loss: expected a finite one on every rank")
    try:
        loss, grads, after = _gradient(model, *given)
        checked_like("state", after, after)  # the next batch may start from it
    except NonFiniteError as error:
        loss, reason = math.nan, error
    loss = ranks.total(loss, comm)
    if not math.isfinite(loss):
        raise reason
    return loss, grads if comm is None else ranks.total_gradient(grads, model.params, comm), after


def check_step_options(
    model: Recurrent,
    max_norm: float = np.inf,
    accumulate: int = 1,
    comm: ranks.Comm | None = None,
) -> None:
    """Raise :class:`OptionError` if the model or an option of :func:`train_step` is invalid."""
    check_has("model", model, "forward", "backward")
    checked_above_zero("max_norm", max_norm, infinite=True)
    checked_positive("accumulate", accumulate)
    if comm is not None:
        check_has("comm", comm, "Allreduce", "allreduce", "allgather", "bcast")


def _rows(batch: Batch, state: Any, accumulate: int, comm: ranks.Comm | None) -> Batch:
    """Return the rows of this rank, or raise an error if batch and state do not fit."""
    _check_batch(batch)
    ranks.check_ranks(len(batch.inputs), accumulate, comm)
    rows = batch.rows(ranks.rank_rows(len(batch.inputs), comm))
    for name, array in leaves("state", state):
        if array.shape[:1] != rows.inputs.shape[:1]:
            expected = f"{len(rows.inputs)} rows, as in the batch"
            raise ShapeError(f"{name}: expected {expected}; got shape {array.shape}")
    return rows


def _check_batch(batch: Any) -> None:
    check_kind("batch", batch, Batch)
    checked_bool("fresh", batch.fresh)
    if getattr(batch.inputs, "ndim", 0) not in (2, 3):
        got = getattr(batch.inputs, "shape", type(batch.inputs).__name__)
        expected = "an array of ids (B, T) or floats (B, T, D)"
        raise ShapeError(f"inputs: expected {expected}; got {got}")
    if batch.inputs.ndim == 3:
        check_form("inputs", batch.inputs, ("B", "T", "D"), "floating-point numbers")
    else:
        check_form("inputs", batch.inputs, ("B", "T"), "integers")
    check_form("targets", batch.targets, batch.inputs.shape[:2], "numbers")
    for name, array in (("inputs", batch.inputs), ("targets", batch.targets)):
        if array.dtype.kind == "f":
            check_array(name, array, array.shape)
    if batch.mask is not None:
        check_form("mask", batch.mask, batch.targets.shape, "booleans")
    if batch.num_targets == 0:
        size = batch.targets.size
        raise ShapeError(f"targets: expected at least one position that counts; got 0 of {size}")


def squared_error(
    y: Array, targets: Array, mask: BoolArray | None = None, dloss: float = 1.0
) -> tuple[Array, Array]:
    r"""Return the mean squared error of outputs y (..., 1), and their gradient.

    .. math:: L = \frac{1}{N} \sum_n (y_n - t_n)^2, \qquad
        \delta y_n = \frac{2}{N} (y_n - t_n) \, \delta L

    The targets t are floats (...). Positions where ``mask`` (...) is False do not count, neither in
    the sum nor in N, and have gradient 0.

    Examples
    --------
    >>> loss, dy = squared_error(np.array([[1.0], [3.0]]), np.array([0.0, 1.0]))
    >>> float(loss), dy.tolist()
    (2.5, [[1.0], [2.0]])
    """
    counted = np.ones(targets.shape, bool) if mask is None else mask
    number = int(np.count_nonzero(counted))
    errors = np.where(counted, y[..., 0] - targets.astype(y.dtype), y.dtype.type(0))
    dy = errors * errors.dtype.type(2 * dloss / number)  # [mse.2]
    return np.square(errors).sum() / number, dy[..., None]  # [mse.1]


def loss_and_gradient(y: Array, batch: Batch, share: float = 1.0) -> tuple[float, Array]:
    """Return the mean loss of a model's outputs, and ``share`` times its gradient."""
    if batch.targets.dtype.kind == "f":
        if y.shape != (*batch.targets.shape, 1):
            expected = f"floats need a model with outputs (B, T, 1); got outputs {y.shape}"
            raise ShapeError(f"targets: {expected}")
        loss, dy = squared_error(y, batch.targets, batch.mask, share)
        return float(loss), dy
    loss, probabilities = softmax_cross_entropy(y, batch.targets, mask=batch.mask)
    return float(loss), softmax_cross_entropy_backward(share, probabilities)


def _gradient(
    model: Recurrent, batch: Batch, state: Any, total: int, accumulate: int, options: Any
) -> tuple[float, dict[str, Array], Any]:
    """Return the share of some rows in the mean over ``total`` targets, gradients and state."""
    loss, grads, states = 0.0, dict[str, Array](), []
    for part in spread(len(batch.inputs), accumulate):
        rows, before = batch.rows(part), rows_of(state, part)
        y, after, cache = model.forward(rows.inputs, before, **options)
        states.append(after)
        if not rows.num_targets:
            continue
        share = rows.num_targets / total
        mean, dy = loss_and_gradient(y, rows, share)
        _, _, new = model.backward(dy, cache)
        loss += share * mean
        grads = {n: np.asarray(grads[n] + grad) for n, grad in new.items()} if grads else new
    return loss, grads, join_states(states)
