"""Linear map with one block per head. Derived in ``docs/derivations/blocks.md``."""

from math import gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers.layer import Grads, Layer
from numpy_xlstm.numerics import Array, check_positive, checked_dtype, generator_or_new

FAST_WIDTH = 16
"""Blocks narrower than this are joined."""

WORTH_MERGING = 32
"""From how many rows on."""


class HeadwiseLinearCache(NamedTuple):
    """What the backward of :class:`HeadwiseLinear` needs."""

    x: Array
    """The input, shape (..., D)."""
    weight: Array
    """The weight that the forward used, shape (NH, O/NH, D/NH)."""


class HeadwiseLinear(Layer[HeadwiseLinearCache]):
    r"""Affine map whose matrix is block-diagonal, one block per head.

    .. math:: y^{(h)} = W^{(h)} x^{(h)} + b^{(h)}

    Parameters
    ----------
    in_features : int
        Width D of the input.
    num_heads : int
        Number NH of blocks; must divide ``in_features`` and ``out_features``.
    bias : bool
        Whether there is a bias b.
    out_features : int, optional
        Width O of the output; D if omitted.
    dtype : dtype
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the weight; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``weight`` is W, shape (NH, O/NH, D/NH), normal with variance 2/(5 D/NH); ``bias`` is b,
        shape (O,), 0, if there is one.

    Raises
    ------
    OptionError
        If ``num_heads`` does not divide a width.

    Notes
    -----
    ``LinearHeadwiseExpand`` of the official package.

    Examples
    --------
    >>> import numpy as np
    >>> layer = HeadwiseLinear(6, num_heads=3, rng=np.random.default_rng(0))
    >>> y, cache = layer.forward(np.ones((4, 5, 6)))
    >>> dx, grads = layer.backward(np.ones_like(y), cache)
    >>> y.shape, grads["weight"].shape
    ((4, 5, 6), (3, 2, 2))
    """

    def __init__(
        self,
        in_features: int,
        num_heads: int,
        bias: bool = False,
        *,
        out_features: int | None = None,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.in_features = check_positive("in_features", in_features)
        wanted = in_features if out_features is None else out_features
        self.out_features = check_positive("out_features", wanted)
        self.num_heads = check_positive("num_heads", num_heads)
        for name, width in (("in_features", in_features), ("out_features", self.out_features)):
            if width % num_heads:
                raise OptionError(
                    f"num_heads: expected a divisor of {name} = {width}; got {num_heads}"
                )
        to, rng = checked_dtype(dtype), generator_or_new(rng)
        shape = (num_heads, self.out_features // num_heads, in_features // num_heads)
        self.params = {"weight": rng.normal(0, (2 / 5 / shape[2]) ** 0.5, shape).astype(to)}
        if bias:
            self.params["bias"] = np.zeros(self.out_features, to)

    def apply(self, x: Array, out: Array | None = None) -> tuple[Array, HeadwiseLinearCache]:
        """Forward, without checks; written to ``out`` if that is given."""
        weight = self.params["weight"]
        y = np.empty((*x.shape[:-1], self.out_features), x.dtype) if out is None else out
        W = merged(weight, x)
        turned = W.swapaxes(1, 2)
        if x.size > self.in_features:  # more than one row: NumPy takes twice as long for a view
            turned = turned.copy()
        np.matmul(by_head(x, W), turned, out=by_head(y, W))  # [headwise.1]
        if "bias" in self.params:
            y += self.params["bias"]
        return y, HeadwiseLinearCache(x, weight)

    def apply_backward(self, dy: Array, cache: HeadwiseLinearCache) -> tuple[Array, Grads]:
        """Backward, without checks."""
        x, weight = cache
        W = merged(weight, x)
        dW = by_head(dy, W).swapaxes(1, 2) @ by_head(x, W)
        grads = {"weight": unmerged(dW, weight.shape)}  # [headwise.2]
        if "bias" in self.params:
            grads["bias"] = dy.reshape(-1, self.out_features).sum(axis=0)  # [headwise.3]
        dx = np.empty(x.shape, x.dtype)
        np.matmul(by_head(dy, W), W, out=by_head(dx, W))  # [headwise.4]
        return dx, grads


def merged(weight: Array, x: Array) -> Array:
    """Join neighbouring blocks to larger ones, with 0 beside the diagonal, for many rows of x.

    A product of matrices of width 4 takes twice as long as one of width 16.
    """
    NH, rows, columns = weight.shape
    few = x.size < NH * columns * WORTH_MERGING
    count = 1 if few else gcd(NH, max(1, FAST_WIDTH // max(rows, columns)))
    if count == 1:
        return weight
    joined = np.zeros((NH // count, count, rows, count, columns), weight.dtype)
    which = np.arange(count)
    joined[:, which, :, which] = weight.reshape(-1, count, rows, columns).swapaxes(0, 1)
    return joined.reshape(-1, count * rows, count * columns)


def unmerged(joined: Array, shape: tuple[int, ...]) -> Array:
    """The blocks on the diagonal of what :func:`merged` has joined."""
    NH, rows, columns = shape
    count = NH // len(joined)
    which = np.arange(count)
    split = joined.reshape(-1, count, rows, count, columns)
    return split[:, which, :, which].swapaxes(0, 1).reshape(shape)


def by_head(x: Array, weight: Array) -> Array:
    """View of x (..., NH·n) as (NH, rows, n), for a weight with NH blocks."""
    NH = len(weight)
    return x.reshape(-1, NH, x.shape[-1] // NH).swapaxes(0, 1)
