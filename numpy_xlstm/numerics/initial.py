"""Initial values of parameters: drawn ones, and none for a model that is only shapes."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array, checked_dtype, checked_positive, generator_or_new
from numpy_xlstm.numerics.memory import check_fits


def drawn_uniformly(
    shapes: Mapping[str, tuple[int, ...]], bound: float, dtype: npt.DTypeLike, rng: Any
) -> dict[str, Array]:
    """Draw parameters of these names and shapes uniformly from ±``bound``."""
    to, rng = checked_dtype(dtype), generator_or_new(rng)
    check_fits(shapes.values(), to, rng)
    return {
        name: rng.uniform(-bound, bound, s).astype(to, copy=False) for name, s in shapes.items()
    }


def drawn_normally(
    shapes: Mapping[str, tuple[int, ...]], deviation: float, dtype: npt.DTypeLike, rng: Any
) -> dict[str, Array]:
    """Draw a weight of this deviation, and set a bias to 0."""
    to, rng = checked_dtype(dtype), generator_or_new(rng)
    check_fits(shapes.values(), to, rng)
    params = {"weight": rng.normal(0, deviation, shapes["weight"]).astype(to, copy=False)}
    return params | ({"bias": np.zeros(shapes["bias"], to)} if "bias" in shapes else {})


def small_init(dim: int) -> float:
    """Return the deviation √(2/(5 dim)) of weights: "small init", Nguyen & Salazar 2019."""
    return math.sqrt(2 / (5 * dim))


def wang_init(dim: int, num_blocks: int) -> float:
    """Return the deviation 2/(num_blocks √dim) of the maps into the residual stream."""
    return 2 / (checked_positive("num_blocks", num_blocks) * math.sqrt(dim))


class ShapesOnly(np.random.Generator):
    """Generator whose matrices are a broadcast 0 and take no memory, for a shape-only model.

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
    >>> f"{xLSTMLarge(config, rng=ShapesOnly()).num_parameters:,}"
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
