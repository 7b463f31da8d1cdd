"""Affine map of the last axis. Derived in ``docs/derivations/layers.md``."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers.layer import Grads, Layer, rows
from numpy_xlstm.layers.product import times_transposed
from numpy_xlstm.numerics import Array, check_positive, checked_dtype, generator_or_new


class LinearCache(NamedTuple):
    """What the backward of :class:`Linear` needs."""

    x: Array
    """The input, shape (..., D)."""
    weight: Array
    """The weight that the forward used, shape (O, D)."""


class Linear(Layer[LinearCache]):
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
        to, rng = checked_dtype(dtype), generator_or_new(rng)
        bound = self.in_features**-0.5
        shape = (self.out_features, self.in_features)
        self.params = {"weight": rng.uniform(-bound, bound, shape).astype(to)}
        if bias:
            self.params["bias"] = rng.uniform(-bound, bound, self.out_features).astype(to)

    def apply(self, x: Array) -> tuple[Array, LinearCache]:
        """Forward, without checks."""
        weight, bias = self.params["weight"], self.params.get("bias")
        y = times_transposed(rows(x), weight)  # [linear.1]
        if bias is not None:
            y += bias
        return y.reshape(*x.shape[:-1], self.out_features), LinearCache(x, weight)

    def apply_backward(self, dy: Array, cache: LinearCache) -> tuple[Array, Grads]:
        """Backward, without checks."""
        x, weight = cache
        flat = rows(dy)
        grads = {"weight": flat.T @ rows(x)}  # [linear.2]
        if "bias" in self.params:
            grads["bias"] = flat.sum(axis=0)  # [linear.3]
        return (flat @ weight).reshape(x.shape), grads  # [linear.4]
