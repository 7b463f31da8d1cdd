"""Meta initialisation: shape-only models, whose parameters are later read from a checkpoint."""

import math
from typing import Any

import numpy as np

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array


class MetaInitialisation(np.random.Generator):
    """Generator for meta initialisation: its matrices are a broadcast 0 and take no memory.

    A model made with it has all names and shapes. Make it in float64, because a conversion to
    another dtype would take memory. The matrices are read-only. ``with_params`` replaces them by
    other arrays, of any dtype.

    Parameters
    ----------
    most : float
        Largest count of numbers that may be drawn. A model that needs more raises
        :class:`ShapeError` before it is built. For the model of a file this is a multiple of the
        count of numbers in the file.

    Examples
    --------
    >>> from numpy_xlstm import xLSTMLarge, xLSTMLargeConfig
    >>> config = xLSTMLargeConfig(4096, num_heads=8, num_blocks=32, vocab_size=50304)
    >>> f"{xLSTMLarge(config, rng=MetaInitialisation()).num_parameters:,}"
    '6,865,424,896'
    """

    def __init__(self, most: float = np.inf) -> None:
        super().__init__(np.random.PCG64(0))
        self.most = most
        self._drawn = 0

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Array:  # type: ignore[override]
        """Return a writable vector of zeros, or a matrix of zeros that takes no memory."""
        shape: tuple[Any, ...] = (size,) if isinstance(size, int | np.integer) else size
        self._drawn += math.prod(map(int, shape))
        if self._drawn > self.most:
            raise ShapeError(
                "parameters: expected a model of as many numbers as its file has; got a larger one"
            )
        return np.zeros(shape) if len(shape) == 1 else np.broadcast_to(0.0, shape)

    uniform = normal  # type: ignore[assignment]
