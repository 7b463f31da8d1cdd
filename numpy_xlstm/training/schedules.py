"""Schedules of the learning rate."""

import math
from collections.abc import Callable

from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import check_range, is_number

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
    check_range("warmup", warmup, 0, 1)
    if not is_number(final) or not 0 <= final <= 1:
        raise OptionError(f"final: expected a number in [0, 1]; got {final!r}")

    def schedule(progress: float) -> float:
        if progress < warmup:
            return progress / warmup  # [schedule.1]
        fall = (min(progress, 1.0) - warmup) / (1 - warmup)
        return final + (1 - final) * (1 + math.cos(math.pi * fall)) / 2  # [schedule.2]

    return schedule
