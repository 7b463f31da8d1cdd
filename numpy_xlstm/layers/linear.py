"""Affine map of the last axis. Derived in ``docs/derivations/layers.md``."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers.base import Layer
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, check_positive, checked_dtype, generator_or_new


class LinearCache(NamedTuple):
    """What the backward of :class:`Linear` needs."""

    x: Array
    """The input, shape (..., D)."""


class Linear(Layer):
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
    params : Mapping[str, np.ndarray]
        ``weight`` is W, shape (O, D); ``bias`` is b, shape (O,), if there is one.

    Notes
    -----
    Both are drawn uniformly from ±1/√D, as ``torch.nn.Linear`` does.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> layer = Linear(3, 2, rng=rng)
    >>> y, cache = layer.forward(np.ones((4, 5, 3)))
    >>> y.shape
    (4, 5, 2)
    >>> dx, grads = layer.backward(rng.standard_normal(y.shape), cache)
    >>> dx.shape, sorted(grads)
    ((4, 5, 3), ['bias', 'weight'])
    """

    Cache = LinearCache

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.in_features = D = check_positive("in_features", in_features)
        self.out_features = check_positive("out_features", out_features)
        to, rng = checked_dtype(dtype), generator_or_new(rng)
        shapes = {"weight": (out_features, D)} | ({"bias": (out_features,)} if bias else {})
        bound = D**-0.5
        self.params = {
            name: rng.uniform(-bound, bound, shape).astype(to) for name, shape in shapes.items()
        }

    def compute(self, x: Array) -> tuple[Array, LinearCache]:
        """Forward, without checks."""
        params = self.params
        y = x.reshape(-1, self.in_features) @ params["weight"].T  # [linear.1]
        if "bias" in params:
            y += params["bias"]
        return y.reshape(*x.shape[:-1], self.out_features), LinearCache(x)

    def compute_backward(self, dy: Array, cache: LinearCache) -> tuple[Array, Grads]:
        """Backward, without checks."""
        x, weight = cache.x, self.params["weight"]
        dy_rows, x_rows = dy.reshape(-1, self.out_features), x.reshape(-1, self.in_features)
        grads = {"weight": dy_rows.T @ x_rows}  # [linear.2]
        if "bias" in self.params:
            grads["bias"] = dy_rows.sum(axis=0)  # [linear.3]
        return (dy_rows @ weight).reshape(x.shape), grads  # [linear.4]
