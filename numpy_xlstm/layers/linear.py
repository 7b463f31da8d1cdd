"""Affine map of the last axis. Derived in ``docs/derivations/layers.md``."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers.shapes import leading_shape
from numpy_xlstm.numerics import Array, check_array, check_positive, checked_dtype
from numpy_xlstm.parameters import Parameterised


class LinearCache(NamedTuple):
    """What the backward of :class:`Linear` needs."""

    x: Array
    """The input, shape (..., D)."""
    weight: Array
    """The weight that the forward used, shape (O, D)."""


class Linear(Parameterised):
    r"""Affine map of the last axis.

    .. math:: y = x W^\top + b

    Parameters
    ----------
    in_features : int
        Width D of the input.
    out_features : int
        Width O of the output.
    bias : bool
        Whether there is a bias b.
    dtype : dtype
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``weight`` is W, shape (O, D); ``bias`` is b, shape (O,), if there is one.

    Notes
    -----
    Both are drawn uniformly from ±1/√D, as ``torch.nn.Linear`` does.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Linear(3, 2, rng=np.random.default_rng(0))
    >>> y, cache = layer.forward(np.ones((4, 5, 3)))
    >>> y.shape
    (4, 5, 2)
    >>> dx, grads = layer.backward(np.ones_like(y), cache)
    >>> dx.shape, sorted(grads)
    ((4, 5, 3), ['bias', 'weight'])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.in_features = check_positive("in_features", in_features)
        self.out_features = check_positive("out_features", out_features)
        to, rng = checked_dtype(dtype), np.random.default_rng(rng)
        bound = self.in_features**-0.5
        shape = (self.out_features, self.in_features)
        self.params = {"weight": rng.uniform(-bound, bound, shape).astype(to)}
        if bias:
            self.params["bias"] = rng.uniform(-bound, bound, self.out_features).astype(to)

    def __call__(self, x: Array) -> Array:
        """Evaluate: the output alone."""
        return self.forward(x)[0]

    def forward(self, x: Array) -> tuple[Array, LinearCache]:
        """Map x (..., D) to y (..., O).

        Raises
        ------
        ShapeError
            If the last axis of ``x`` is not D wide.
        DTypeError
            If the dtype of ``x`` is not that of the parameters.
        NonFiniteError
            If ``x`` holds NaN or infinity.
        """
        check_array("x", x, (*leading_shape(x), self.in_features), self.dtype)
        weight = self.params["weight"]
        y = _rows(x) @ weight.T  # [linear.1]
        if "bias" in self.params:
            y += self.params["bias"]
        return y.reshape(*x.shape[:-1], self.out_features), LinearCache(x, weight)

    def backward(self, dy: Array, cache: LinearCache) -> tuple[Array, dict[str, Array]]:
        """Gradients of x and of the parameters, from the cotangent dy (..., O).

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If ``dy`` is not like the output of that forward, or not finite.
        """
        x, weight = cache
        check_array("dy", dy, (*x.shape[:-1], self.out_features), x.dtype)
        rows = _rows(dy)
        grads = {"weight": rows.T @ _rows(x)}  # [linear.2]
        if "bias" in self.params:
            grads["bias"] = rows.sum(axis=0)  # [linear.3]
        return (rows @ weight).reshape(x.shape), grads  # [linear.4]


def _rows(x: Array) -> Array:
    """All leading axes as one: one matrix product is faster than one per batch row."""
    return x.reshape(-1, x.shape[-1])
