"""Affine maps of the last axis: one map, several maps of one x, and one map per head.

Derived in ``docs/derivations/layers.md``; the map per head in ``docs/derivations/blocks.md``.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.kernels.common import split_heads
from numpy_xlstm.kernels.products import times
from numpy_xlstm.layers.base import Layer, Map
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    checked_bool,
    checked_divides,
    checked_positive,
    generator_or_new,
)
from numpy_xlstm.numerics.initial import drawn_normally, drawn_uniformly
from numpy_xlstm.numerics.threads import matmul


class Linear(Layer):
    r"""Affine map of the last axis.

    .. math:: y = x W^\top + b

    Parameters
    ----------
    in_features, out_features : int
        Widths D and O of the input and of the output.
    bias : bool
        Whether there is a bias b.
    deviation : float, optional
        Standard deviation of the initial W, with an initial b of 0. If omitted, both are drawn
        uniformly from ±1/√D, as in ``torch.nn.Linear``.
    dtype : dtype
        Dtype of the parameters, which the inputs must share: float32, float64 or longdouble, and
        for a complex step complex128 or clongdouble.
    rng : np.random.Generator or int, optional
        Generator for the initial parameters, or its seed; a new, unseeded one if omitted.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``weight`` is W, shape (O, D); ``bias`` is b, shape (O,), if there is one.

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

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        deviation: float | None = None,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.in_features = D = checked_positive("in_features", in_features)
        self.out_features = O = checked_positive("out_features", out_features)  # noqa: E741
        shapes = {"weight": (O, D)} | ({"bias": (O,)} if checked_bool("bias", bias) else {})
        if deviation is None:
            self.params = drawn_uniformly(shapes, D**-0.5, dtype, rng)
        else:
            self.params = drawn_normally(shapes, deviation, dtype, rng)

    def compute(self, x: Array) -> tuple[Array, Array]:
        return linear_forward(x, [self]), x

    def decode_step(self) -> Map:
        return joined_step(self)

    def compute_backward(self, dy: Array, cache: Array) -> tuple[Array, Grads]:
        return linear_backward(dy, cache, self.params)


def linear_forward(x: Array, maps: Sequence[Linear]) -> Array:
    """Return the outputs of linear maps, side by side."""
    rows, stops = x.reshape(-1, x.shape[-1]), [0]
    stops += np.cumsum([len(linear.params["weight"]) for linear in maps]).tolist()
    y = np.empty((len(rows), stops[-1]), x.dtype)
    for linear, (start, stop) in zip(maps, pairwise(stops), strict=True):
        times(rows, linear.params["weight"], out=y[:, start:stop])  # [linear.1]
        if "bias" in linear.params:
            y[:, start:stop] += linear.params["bias"]
    return y.reshape(*x.shape[:-1], stops[-1])


JOINED = 2**20
"""Largest size in bytes of matrices that are joined to one, which saves calls."""


def joined_step(*maps: Linear) -> Map:
    """Return several maps of one x as a function that returns their outputs side by side.

    Large matrices are used as they are, and small ones are joined to one.
    """
    if sum(linear.params["weight"].nbytes for linear in maps) > JOINED:
        return lambda x: linear_forward(x, maps)
    W = np.concatenate([linear.params["weight"] for linear in maps]).T.astype(maps[0].dtype, "C")
    b = np.concatenate([bias_of(linear) for linear in maps])
    return (lambda x: x @ W + b) if b.any() else (lambda x: x @ W)


def bias_of(linear: Any) -> Array:
    """Return the bias, or zeros if there is none."""
    zeros = np.zeros(linear.out_features, linear.dtype)
    bias: Array = linear.params.get("bias", zeros)
    return bias


def linear_backward(dy: Array, x: Array, params: Mapping[str, Array]) -> tuple[Array, Grads]:
    """Return the gradients of x and of the parameters of a linear map."""
    weight = params["weight"]
    dy_rows, x_rows = dy.reshape(-1, len(weight)), x.reshape(-1, weight.shape[1])
    grads = {"weight": matmul(dy_rows.T, x_rows)}  # [linear.2]
    if "bias" in params:
        grads["bias"] = dy_rows.sum(axis=0)  # [linear.3]
    return matmul(dy_rows, weight).reshape(x.shape), grads  # [linear.4]


class LinearGroup(Layer):
    """Several affine maps of one x, each stored as a :class:`~numpy_xlstm.Linear` of its own.

    The outputs of all maps are concatenated, as if one map had the rows of all.

    Parameters
    ----------
    in_features : int
        Width of x.
    widths : Mapping[str, int]
        Names and widths of the maps, in order.
    bias, deviation, dtype, rng
        As in :class:`~numpy_xlstm.Linear`.
    """

    def __init__(
        self, in_features: int, widths: Mapping[str, int], bias: bool = False, **options: Any
    ) -> None:
        self.in_features, self.out_features = in_features, sum(widths.values())
        options["rng"] = generator_or_new(options.get("rng"))
        self.linears = [Linear(in_features, width, bias, **options) for width in widths.values()]
        self.submodules = {"linears": [f"{name}.*" for name in widths]}

    def compute(self, x: Array) -> tuple[Array, Array]:
        return linear_forward(x, self.linears), x

    def decode_step(self) -> Map:
        return joined_step(*self.linears)

    def compute_backward(self, dy: Array, cache: Array) -> tuple[Array, Grads]:
        """Compute the backward without checks, as one joined map, which is faster."""
        stored = [linear.params for linear in self.linears]
        joined = {name: np.concatenate([one[name] for one in stored]) for name in stored[0]}
        dx, grads = linear_backward(dy, cache, joined)
        parts, start = [], 0
        for linear in self.linears:
            rows = slice(start, start + linear.out_features)
            parts.append({name: array[rows] for name, array in grads.items()})
            start = rows.stop
        return dx, self.named_grads(linears=parts)


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
    deviation : float, optional
        Standard deviation of the initial W; √(2/5) / √(D/NH) if omitted.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``weight`` is W, shape (NH, O/NH, D/NH), initially normal. If there is a bias, ``bias`` is
        b, shape (O,), initially 0.

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
        deviation: float | None = None,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.in_features = D = checked_positive("in_features", in_features)
        wanted = D if out_features is None else out_features
        self.out_features = out = checked_positive("out_features", wanted)
        self.num_heads = NH = checked_divides("num_heads", num_heads, "in_features", D)
        checked_divides("num_heads", num_heads, "out_features", out)
        shapes: dict[str, tuple[int, ...]] = {"weight": (NH, out // NH, D // NH)}
        shapes |= {"bias": (out,)} if checked_bool("bias", bias) else {}
        start = (2 / 5 / (D // NH)) ** 0.5 if deviation is None else deviation
        self.params = drawn_normally(shapes, start, dtype, rng)

    def compute(self, x: Array) -> tuple[Array, Array]:
        W, rows = join_blocks(self.params["weight"]), x.reshape(-1, self.in_features)
        blocks, y = len(W), np.empty((len(rows), self.out_features), x.dtype)
        transposed, heads = W.swapaxes(1, 2).copy(), split_heads(rows, blocks)
        np.matmul(heads, transposed, out=split_heads(y, blocks))  # [headwise.1]
        if "bias" in self.params:
            y += self.params["bias"]
        return y.reshape(*x.shape[:-1], self.out_features), x

    def compute_backward(self, dy: Array, cache: Array) -> tuple[Array, Grads]:
        weight, rows = self.params["weight"], cache.reshape(-1, self.in_features)
        W, dy = join_blocks(weight), dy.reshape(-1, self.out_features)
        dy_heads, dx = split_heads(dy, len(W)), np.empty(rows.shape, rows.dtype)
        dW = dy_heads.swapaxes(1, 2) @ split_heads(rows, len(W))
        np.matmul(dy_heads, W, out=split_heads(dx, len(W)))  # [headwise.4]
        grads = {"weight": separate_blocks(dW, weight.shape)}  # [headwise.2]
        if "bias" in self.params:
            grads["bias"] = dy.sum(axis=0)  # [headwise.3]
        return dx.reshape(cache.shape), grads


FAST_WIDTH = 16
"""Largest width of joined blocks. Many small products are slow: for the same x, blocks of width 4
take four times as long as blocks of width 16."""


def join_blocks(weight: Array) -> Array:
    """Join neighbouring blocks into wider ones, with zeros off the diagonal."""
    NH, rows, columns = weight.shape
    count = gcd(NH, max(1, FAST_WIDTH // max(rows, columns)))
    if count == 1:
        return weight
    joined, place = np.zeros((NH // count, count, rows, count, columns), weight.dtype), range(count)
    joined[:, place, :, place] = weight.reshape(-1, count, rows, columns).swapaxes(0, 1)
    return joined.reshape(NH // count, count * rows, count * columns)


def separate_blocks(joined: Array, shape: tuple[int, ...]) -> Array:
    """Return the blocks on the diagonals; the inverse of :func:`join_blocks`."""
    NH, rows, columns = shape
    count, place = NH // len(joined), range(NH // len(joined))
    blocks = joined.reshape(-1, count, rows, count, columns)[:, place, :, place]
    return blocks.swapaxes(0, 1).reshape(shape)


def set_gate_biases(gates: LinearGroup, input_bias: float | Array) -> None:
    """Set the initial biases of maps to i and f: the given ones, and 3 … 6 over the heads."""
    biases = [linear.params["bias"] for linear in gates.linears]
    i, f = biases if len(biases) == 2 else np.split(biases[0], 2)
    i[...], f[...] = input_bias, np.linspace(3, 6, len(f))
