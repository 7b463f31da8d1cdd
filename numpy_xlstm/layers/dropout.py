"""Dropout with an explicit random generator. Derived in ``docs/derivations/blocks.md``."""

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import Array, check_generator, is_number
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
        if not is_number(p) or not 0 <= p < 1:
            raise OptionError(f"dropout: expected a probability in [0, 1); got {p!r}")
        self.p = float(p)

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, PairCache]:
        """Drop random entries of x. Without ``rng``, as in evaluation, drop none.

        Returns y and residuals for :meth:`backward`.
        """
        check_generator("rng", rng)
        return dropout(x, self, rng)

    def backward(self, dy: Array, cache: PairCache) -> Array:
        """Return the gradient of x, δx = s ∘ δy."""
        return dropout_backward(dy, cache)

    def compute(self, x: Array, rng: np.random.Generator | None) -> tuple[Array, Array | None]:
        """Compute y and the factors s, None if nothing is dropped, without checks."""
        if rng is None or self.p == 0:
            return x, None
        kept = rng.random(x.shape) >= self.p
        factors = kept * x.real.dtype.type(1 / (1 - self.p))
        return x * factors, factors  # [dropout.1]

    def compute_backward(self, dy: Array, factors: Array | None) -> Array:
        """Compute the backward without checks."""
        return dy if factors is None else dy * factors  # [dropout.2]


@checked_forward
def dropout(
    x: Array, layer: Dropout, rng: np.random.Generator | None
) -> tuple[Array, Array | None]:
    """Return y and the factors s."""
    return layer.compute(x, rng)


@checked_backward
def dropout_backward(dy: Array, factors: Array | None) -> Array:
    """Return the gradient of x."""
    return dy if factors is None else dy * factors
