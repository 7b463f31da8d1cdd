"""Affine maps of the last axis: one map, several maps of one x, and one map per head.

Derived in ``docs/derivations/layers.md``; the map per head in ``docs/derivations/blocks.md``.
"""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.kernels.headwise import headwise, headwise_backward
from numpy_xlstm.layers.base import Layer
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import (
    Array,
    check_bool,
    check_divides,
    check_positive,
    checked_dtype,
    generator_or_new,
)
from numpy_xlstm.numerics.available import check_fits
from numpy_xlstm.numerics.threads import matmul


class LinearCache(NamedTuple):
    """Residuals of :class:`Linear`."""

    x: Array


class Linear(Layer):
    r"""Affine map of the last axis.

    .. math:: y = x W^\top + b

    Parameters
    ----------
    in_features, out_features : int
        Widths D and O of the input and of the output.
    bias : bool
        Whether there is a bias b.
    dtype : dtype
        Dtype of the parameters, which the inputs must share: float32, float64 or longdouble, and
        for a complex step complex128 or clongdouble.
    rng : np.random.Generator or int, optional
        Generator for the initial parameters, or its seed; a new, unseeded one if omitted.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``weight`` is W, shape (O, D); ``bias`` is b, shape (O,), if there is one. Both are drawn
        uniformly from ±1/√D, as in ``torch.nn.Linear``.

    Raises
    ------
    OptionError, DTypeError
        If a size is not positive, or an option is invalid.

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
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.in_features = D = check_positive("in_features", in_features)
        self.out_features = O = check_positive("out_features", out_features)  # noqa: E741
        shapes = {"weight": (O, D)} | ({"bias": (O,)} if check_bool("bias", bias) else {})
        self.params = drawn_uniformly(shapes, D**-0.5, dtype, rng)

    def compute(self, x: Array) -> tuple[Array, LinearCache]:
        """Compute the forward without checks."""
        params = self.params
        y = matmul(x.reshape(-1, self.in_features), params["weight"].T)  # [linear.1]
        if "bias" in params:
            y += params["bias"]
        return y.reshape(*x.shape[:-1], self.out_features), LinearCache(x)

    def compute_backward(self, dy: Array, cache: LinearCache) -> tuple[Array, Grads]:
        """Compute the backward without checks."""
        return linear_backward(dy, cache.x, self.params)


def linear_backward(dy: Array, x: Array, params: Mapping[str, Array]) -> tuple[Array, Grads]:
    """Return the gradients of x and of the parameters of a linear map."""
    weight = params["weight"]
    dy_rows, x_rows = dy.reshape(-1, len(weight)), x.reshape(-1, weight.shape[1])
    grads = {"weight": matmul(dy_rows.T, x_rows)}  # [linear.2]
    if "bias" in params:
        grads["bias"] = dy_rows.sum(axis=0)  # [linear.3]
    return matmul(dy_rows, weight).reshape(x.shape), grads  # [linear.4]


def drawn_uniformly(
    shapes: Mapping[str, tuple[int, ...]], bound: float, dtype: npt.DTypeLike, rng: Any
) -> dict[str, Array]:
    """Draw parameters of these names and shapes uniformly from ±``bound``."""
    to, rng = checked_dtype(dtype), generator_or_new(rng)
    check_fits(shapes.values(), to, rng)
    return {
        name: rng.uniform(-bound, bound, s).astype(to, copy=False) for name, s in shapes.items()
    }


LinearGroupCache = tuple[LinearCache, ...]
"""Residuals of :class:`LinearGroup`."""


class LinearGroup(Module):
    """Several affine maps of one x, each a :class:`~numpy_xlstm.Linear` with its own width.

    Parameters
    ----------
    in_features : int
        Width of x.
    widths : Mapping[str, int]
        Names and widths of the outputs, in order.
    bias : bool
        Whether there are biases.
    fused : str, optional
        Name of a single matrix that contains the rows of all maps in order. If omitted, each map is
        stored under its own name. The outputs are the same.
    dtype : dtype, default float64
        Dtype of the parameters, and of all inputs and results: float32, float64 or longdouble; for
        a complex step, complex128 or clongdouble.
    rng : np.random.Generator or int, optional
        Generator for the initial parameters, or its seed; a new, unseeded one if omitted.
    """

    def __init__(
        self,
        in_features: int,
        widths: Mapping[str, int],
        bias: bool = False,
        *,
        fused: str | None = None,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.widths = dict(widths)
        self.fused = fused
        self.slices = [slice(a, b) for a, b in pairwise([0, *accumulate(self.widths.values())])]
        stored = self.widths if fused is None else {fused: sum(widths.values())}
        self.parts, rng = {name: name for name in stored}, generator_or_new(rng)
        for name, width in stored.items():
            setattr(self, name, Linear(in_features, width, bias, dtype=dtype, rng=rng))

    @property
    def linears(self) -> list[Linear]:
        """The maps as they are stored."""
        return [getattr(self, name) for name in self.parts]

    def compute(self, x: Array) -> tuple[list[Array], LinearGroupCache]:
        """Compute the outputs, in order, without checks."""
        outputs, caches = zip(*[linear.compute(x) for linear in self.linears], strict=True)
        if self.fused is not None:
            outputs = tuple(outputs[0][..., part] for part in self.slices)
        return list(outputs), caches

    def compute_backward(self, dys: list[Array], cache: LinearGroupCache) -> tuple[Array, Grads]:
        """Compute the backward from the cotangents of all outputs, without checks."""
        # All maps as one, because one product is faster than several products and their sum.
        stored = [linear.params for linear in self.linears]
        joined = {name: np.concatenate([one[name] for one in stored]) for name in stored[0]}
        dx, grads = linear_backward(np.concatenate(dys, axis=-1), cache[0].x, joined)
        if self.fused is not None:
            return dx, self.named_grads(**{self.fused: grads})
        each = {
            name: {key: array[part] for key, array in grads.items()}
            for name, part in zip(self.parts, self.slices, strict=True)
        }
        return dx, self.named_grads(**each)


class HeadwiseLinearCache(NamedTuple):
    """Residuals of :class:`HeadwiseLinear`."""

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
    dtype : dtype, default float64
        Dtype of the parameters, and of all inputs and results: float32, float64 or longdouble; for
        a complex step, complex128 or clongdouble.
    rng : np.random.Generator or int, optional
        Generator for the initial parameters, or its seed; a new, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``weight`` is W, shape (NH, O/NH, D/NH), initially normal with variance 2/(5 D/NH). If there
        is a bias, ``bias`` is b, shape (O,), initially 0.

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

    def __init__(
        self,
        in_features: int,
        num_heads: int,
        bias: bool = False,
        *,
        out_features: int | None = None,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.in_features = D = check_positive("in_features", in_features)
        wanted = D if out_features is None else out_features
        self.out_features = out = check_positive("out_features", wanted)
        self.num_heads = NH = check_divides("num_heads", num_heads, "in_features", D)
        check_divides("num_heads", num_heads, "out_features", out)
        to, rng = checked_dtype(dtype), generator_or_new(rng)
        check_fits([(out, D // NH)], to, rng)
        weight = rng.normal(0, (2 / 5 / (D // NH)) ** 0.5, (NH, out // NH, D // NH))
        weight = weight.astype(to, copy=False)
        bias = check_bool("bias", bias)
        self.params = {"weight": weight} | ({"bias": np.zeros(out, to)} if bias else {})

    def compute(self, x: Array) -> tuple[Array, HeadwiseLinearCache]:
        """Compute the forward without checks."""
        params = self.params
        y = headwise(x, params["weight"])  # [headwise.1]
        if "bias" in params:
            y += params["bias"]
        return y, HeadwiseLinearCache(x)

    def compute_backward(self, dy: Array, cache: HeadwiseLinearCache) -> tuple[Array, Grads]:
        """Compute the backward without checks."""
        dx, dW = headwise_backward(dy, cache.x, self.params["weight"])  # [headwise.2] [headwise.4]
        grads = {"weight": dW}
        if "bias" in self.params:
            grads["bias"] = dy.reshape(-1, self.out_features).sum(axis=0)  # [headwise.3]
        return dx, grads
