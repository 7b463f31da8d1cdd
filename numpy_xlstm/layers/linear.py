"""Affine maps of the last axis. Derived in ``docs/derivations/layers.md``."""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers.base import Layer
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, check_positive, checked_dtype, generator_or_new


class LinearCache(NamedTuple):
    """What the backward of :class:`Linear` needs."""

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
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``weight`` is W, shape (O, D); ``bias`` is b, shape (O,), if there is one. Both are drawn
        uniformly from ±1/√D, as ``torch.nn.Linear`` does.

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
        self.out_features = O = check_positive("out_features", out_features)  # noqa: E741
        shapes = {"weight": (O, D)} | ({"bias": (O,)} if bias else {})
        self.params = drawn_uniformly(shapes, D**-0.5, dtype, rng)

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


def drawn_uniformly(
    shapes: Mapping[str, tuple[int, ...]], bound: float, dtype: npt.DTypeLike, rng: Any
) -> dict[str, Array]:
    """Parameters between ±``bound``, by name."""
    to, rng = checked_dtype(dtype), generator_or_new(rng)
    return {name: rng.uniform(-bound, bound, shape).astype(to) for name, shape in shapes.items()}


LinearGroupCache = tuple[LinearCache, ...]
"""What the backward of :class:`LinearGroup` needs."""


class LinearGroup(Module):
    """Affine maps of one x, each with its own width: :class:`~numpy_xlstm.Linear` for each.

    Parameters
    ----------
    in_features : int
        Width of x.
    widths : Mapping[str, int]
        Names and widths of the outputs, in order.
    bias : bool
        Whether there are biases.
    fused : str, optional
        The name of one matrix that has the rows of all maps, one below the other. If omitted,
        each map is stored under its own name. The outputs are the same.
    dtype, rng
        As in :class:`~numpy_xlstm.Linear`.
    """

    def __init__(
        self,
        in_features: int,
        widths: Mapping[str, int],
        bias: bool = False,
        *,
        fused: str | None = None,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.widths = dict(widths)
        self.fused = fused
        self.slices = [slice(a, b) for a, b in pairwise([0, *accumulate(self.widths.values())])]
        stored = self.widths if fused is None else {fused: sum(widths.values())}
        self.parts = {name: name for name in stored}
        for name, width in stored.items():
            setattr(self, name, Linear(in_features, width, bias, dtype=dtype, rng=rng))

    @property
    def linears(self) -> list[Linear]:
        """The maps as they are stored."""
        return [getattr(self, name) for name in self.parts]

    def views(self, kind: str) -> list[Array]:
        """The parts of all weights, or biases, one for each output, as live views."""
        arrays = [linear.params[kind] for linear in self.linears]
        return arrays if self.fused is None else [arrays[0][part] for part in self.slices]

    def compute(self, x: Array) -> tuple[list[Array], LinearGroupCache]:
        """Forward, without checks: the outputs in order."""
        outputs, caches = zip(*[linear.compute(x) for linear in self.linears], strict=True)
        if self.fused is not None:
            outputs = tuple(outputs[0][..., part] for part in self.slices)
        return list(outputs), caches

    def compute_backward(self, dys: list[Array], cache: LinearGroupCache) -> tuple[Array, Grads]:
        """Backward, without checks, from the cotangents of all outputs."""
        if self.fused is not None:
            dys = [np.concatenate(dys, axis=-1)]
        dxs, grads = [], {}
        for name, dy, kept in zip(self.parts, dys, cache, strict=True):
            dx, grads[name] = getattr(self, name).compute_backward(dy, kept)
            dxs.append(dx)
        return sum(dxs[1:], dxs[0]), self.named_grads(**grads)
