"""Linear map with one block per head. Derived in ``docs/derivations/blocks.md``."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.kernels.headwise import headwise, headwise_backward
from numpy_xlstm.layers.base import Layer
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    check_divides,
    check_positive,
    checked_dtype,
    generator_or_new,
)


class HeadwiseLinearCache(NamedTuple):
    """What the backward of :class:`HeadwiseLinear` needs."""

    x: Array


class HeadwiseLinear(Layer):
    r"""Affine map with one block per head: ``LinearHeadwiseExpand`` of the official package.

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
    dtype, rng
        As in :class:`~numpy_xlstm.Linear`.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``weight`` is W, shape (NH, O/NH, D/NH), normal with variance 2/(5 D/NH); ``bias`` is b,
        shape (O,), 0, if there is one.

    Raises
    ------
    OptionError
        If ``num_heads`` does not divide a width.

    Examples
    --------
    >>> import numpy as np
    >>> layer = HeadwiseLinear(6, num_heads=3, rng=np.random.default_rng(0))
    >>> y, cache = layer.forward(np.ones((4, 5, 6)))
    >>> dx, grads = layer.backward(np.ones_like(y), cache)
    >>> y.shape, grads["weight"].shape
    ((4, 5, 6), (3, 2, 2))
    """

    Cache = HeadwiseLinearCache

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
        self.in_features = D = check_positive("in_features", in_features)
        wanted = D if out_features is None else out_features
        self.out_features = out = check_positive("out_features", wanted)
        self.num_heads = NH = check_divides("num_heads", num_heads, "in_features", D)
        check_divides("num_heads", num_heads, "out_features", out)
        to, rng = checked_dtype(dtype), generator_or_new(rng)
        weight = rng.normal(0, (2 / 5 / (D // NH)) ** 0.5, (NH, out // NH, D // NH)).astype(to)
        self.params = {"weight": weight} | ({"bias": np.zeros(out, to)} if bias else {})

    def compute(self, x: Array) -> tuple[Array, HeadwiseLinearCache]:
        """Forward, without checks."""
        params = self.params
        y = headwise(x, params["weight"])  # [headwise.1]
        if "bias" in params:
            y += params["bias"]
        return y, HeadwiseLinearCache(x)

    def compute_backward(self, dy: Array, cache: HeadwiseLinearCache) -> tuple[Array, Grads]:
        """Backward, without checks."""
        dx, dW = headwise_backward(dy, cache.x, self.params["weight"])  # [headwise.2] [headwise.4]
        grads = {"weight": dW}
        if "bias" in self.params:
            grads["bias"] = dy.reshape(-1, self.out_features).sum(axis=0)  # [headwise.3]
        return dx, grads
