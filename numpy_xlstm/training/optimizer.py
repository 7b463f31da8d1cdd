"""The protocol of an optimiser, rules of weight decay, and schedules of the learning rate."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from numpy_xlstm.errors import DivergenceError, OptionError
from numpy_xlstm.models import xLSTMLarge, xLSTMLMModel
from numpy_xlstm.numerics import Array, checked_range, is_number


class Optimizer(Protocol):
    """An optimiser, made by ``kind(params, **options)``. :class:`AdamW` documents its members.

    ``options`` are the options of the constructor as JSON values, which a resumed training uses
    again.

    ``step`` updates ``params`` in place from ``scale`` times the gradients, with ``lr`` if it is
    given, and adds 1 to ``t``. It does all or nothing: if a number would not be finite afterwards,
    it raises :class:`DivergenceError` (made by :func:`diverged`), and after any error nothing has
    changed.
    """

    params: Mapping[str, Array]
    lr: float
    t: int

    @property
    def options(self) -> dict[str, Any]: ...  # noqa: D102

    def step(  # noqa: D102
        self, grads: Mapping[str, Array], *, lr: float | None = None, scale: float = 1.0
    ) -> None: ...

    def state_dict(self) -> dict[str, Array]: ...  # noqa: D102

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None: ...  # noqa: D102


def diverged(optimizer: Optimizer, reason: object, lr: float | None) -> DivergenceError:
    """Return the error for a step that diverges."""
    rate = optimizer.lr if lr is None else lr
    return DivergenceError(
        f"training diverged at step {optimizer.t + 1} ({reason}; learning rate {rate:g}); "
        "lower the learning rate"
    )


DecayRule = Callable[[str, Array], bool]
"""Function of name and array that returns whether a parameter decays."""

EMBEDDINGS = "token_embedding.weight", "embedding.weight"
"""Names of the table of token vectors."""


def is_matrix(name: str, array: Array) -> bool:
    """Return whether ``array`` has two or more axes: weights decay, biases do not."""
    return array.ndim >= 2


def official_decay(name: str, array: Array) -> bool:
    """Return whether a parameter decays in the official xLSTM training.

    Parameters with "weight" but not "norm" in their names decay, except the table of token vectors,
    ``token_embedding.weight`` or ``embedding.weight``.

    Examples
    --------
    >>> import numpy as np
    >>> names = "head.weight", "norm.weight", "embedding.weight"
    >>> [official_decay(name, np.ones((2, 2))) for name in names]
    [True, False, False]
    """
    return "weight" in name and "norm" not in name and name not in EMBEDDINGS


def decay_rule(model: Any) -> DecayRule:
    """Return the decay rule of a model, for new and for resumed trainings.

    It is :func:`official_decay` for an xLSTM model, and :func:`is_matrix` for any other model. With
    ``weight_decay_on_embedding`` in the configuration, the table of token vectors decays too.
    """
    if isinstance(model, xLSTMLMModel) and model.config.weight_decay_on_embedding:
        return lambda name, array: name in EMBEDDINGS or official_decay(name, array)
    return official_decay if isinstance(model, xLSTMLMModel | xLSTMLarge) else is_matrix


Schedule = Callable[[float], float]
"""Function from the completed fraction of the training to a factor of the learning rate."""


def constant(progress: float) -> float:
    """Return the factor 1 for any ``progress``."""
    return 1.0


def warmup_cosine(warmup: float = 0.05, final: float = 0.1) -> Schedule:
    r"""Make a schedule that rises linearly and then falls along half a cosine.

    .. math::
        s(p) = \begin{cases} p / w & p < w \\
        f + (1 - f) \, \tfrac12 \big( 1 + \cos π \tfrac{p - w}{1 - w} \big) & p ≥ w \end{cases}

    Parameters
    ----------
    warmup : float
        w, the fraction of the training at which the factor reaches 1; in [0, 1).
    final : float
        f, the factor at the end; in [0, 1].

    Examples
    --------
    >>> schedule = warmup_cosine(warmup=0.2, final=0.1)
    >>> [round(schedule(p), 3) for p in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.55, 0.1]
    """
    checked_range("warmup", warmup, 0, 1)
    if not is_number(final) or not 0 <= final <= 1:
        raise OptionError(f"final: expected a number in [0, 1]; got {final!r}")

    def schedule(progress: float) -> float:
        if progress < warmup:
            return progress / warmup  # [schedule.1]
        fall = (min(progress, 1.0) - warmup) / (1 - warmup)
        return final + (1 - final) * (1 + math.cos(math.pi * fall)) / 2  # [schedule.2]

    return schedule
