"""Dropout with an explicit random generator. Derived in ``docs/derivations/blocks.md``."""

from typing import Any

import numpy as np

from numpy_xlstm.numerics import Array, check_generator, check_range
from numpy_xlstm.validation import PairCache, checked_backward, checked_forward


class Dropout:
    r"""Dropout: entries set to 0 at random, the others scaled up to preserve the mean.

    .. math:: y = x ∘ s, \qquad s = \tfrac{1}{1-p} \text{ with probability } 1 - p, \text{ else } 0

    Parameters
    ----------
    p : float
        Probability that an entry is set to 0, in [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> dropout = Dropout(0.5)
    >>> y, cache = dropout.forward(np.ones(6), np.random.default_rng(1))
    >>> y
    array([2., 2., 0., 2., 0., 0.])
    >>> dropout.backward(np.full(6, 3.0), cache)
    array([6., 6., 0., 6., 0., 0.])
    >>> dropout.forward(np.ones(2))[0]
    array([1., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_dropout(p)

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, PairCache]:
        """Drop random entries of x. Without ``rng``, as in evaluation, drop none.

        Returns y and residuals for :meth:`backward`.
        """
        check_generator("rng", rng)
        return checked_forward(drop)(x, self.p, rng)

    def backward(self, dy: Array, cache: PairCache) -> Array:
        """Return the gradient of x, δx = s ∘ δy."""
        return checked_backward(drop_backward)(dy, cache)


def check_dropout(p: Any) -> float:
    """Return the probability, or raise :class:`OptionError`."""
    return check_range("dropout", p, 0, 1)


def drop(x: Array, p: float, rng: np.random.Generator | None) -> tuple[Array, Array | None]:
    """Compute y and the factors s, None if nothing is dropped, without checks."""
    if rng is None or p == 0:
        return x, None
    kept = rng.random(x.shape) >= p
    factors = kept * x.real.dtype.type(1 / (1 - p))
    return x * factors, factors  # [dropout.1]


def drop_backward(dy: Array, factors: Array | None) -> Array:
    """Compute the backward without checks."""
    return dy if factors is None else dy * factors  # [dropout.2]
