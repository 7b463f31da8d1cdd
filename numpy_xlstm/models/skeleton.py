"""A model without numbers: for a checkpoint, whose arrays then take the place of all parameters."""

from typing import Any

import numpy as np

from numpy_xlstm.numerics import Array


class NothingDrawn(np.random.Generator):
    """A generator whose matrices are one 0, broadcast to their shape: they take no memory.

    A model that is made with it in float64 has all names and shapes. Its matrices cannot be
    written to; ``with_params`` gives it other arrays, of any dtype.

    Examples
    --------
    >>> from numpy_xlstm import xLSTMLarge, xLSTMLargeConfig
    >>> config = xLSTMLargeConfig(4096, num_heads=8, num_blocks=32, vocab_size=50304)
    >>> f"{xLSTMLarge(config, rng=NothingDrawn()).num_parameters:,}"
    '6,865,424,896'
    """

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Array:  # type: ignore[override]
        """Draw nothing."""
        return _nothing(size)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Array:  # type: ignore[override]
        """Draw nothing."""
        return _nothing(size)

    def standard_normal(self, size: Any = None, *args: Any, **options: Any) -> Array:  # type: ignore[override]
        """Draw nothing."""
        return _nothing(size)


def _nothing(size: int | tuple[int, ...]) -> Array:
    """A vector of zeros, which may be written to, or a matrix that takes no memory."""
    return np.zeros(size) if np.ndim(size) == 0 or len(size) == 1 else np.broadcast_to(0.0, size)  # type: ignore[arg-type]
