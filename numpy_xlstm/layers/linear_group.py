"""Several linear maps of the same input, stored apart or as one matrix."""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers.layer import Grads
from numpy_xlstm.layers.linear import Linear, LinearCache
from numpy_xlstm.numerics import Array, generator_or_new
from numpy_xlstm.parameters import Composite, prefixed


class LinearGroupCache(NamedTuple):
    """What the backward of :class:`LinearGroup` needs: the caches of its maps."""

    linears: tuple[LinearCache, ...]


class LinearGroup(Composite):
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
        stops = [0, *accumulate(self.widths.values())]
        self.slices = [slice(a, b) for a, b in pairwise(stops)]
        stored = self.widths if fused is None else {fused: sum(widths.values())}
        rng = generator_or_new(rng)
        self.children = {
            name: Linear(in_features, width, bias, dtype=dtype, rng=rng)
            for name, width in stored.items()
        }

    @property
    def linears(self) -> dict[str, Linear]:
        """The maps as they are stored."""
        linears: Any = self.children
        return linears  # type: ignore[no-any-return]

    def views(self, kind: str) -> list[Array]:
        """The parts of all weights, or biases, one for each output, as live views."""
        arrays = [linear.params[kind] for linear in self.linears.values()]
        return arrays if self.fused is None else [arrays[0][part] for part in self.slices]

    def apply(self, x: Array) -> tuple[list[Array], LinearGroupCache]:
        """Forward, without checks: the outputs in order."""
        if self.fused is not None:
            y, cache = self.linears[self.fused].apply(x)
            return [y[..., part] for part in self.slices], LinearGroupCache((cache,))
        outputs, caches = zip(*[linear.apply(x) for linear in self.linears.values()], strict=True)
        return list(outputs), LinearGroupCache(caches)

    def apply_backward(self, dys: list[Array], cache: LinearGroupCache) -> tuple[Array, Grads]:
        """Backward, without checks, from the cotangents of all outputs."""
        if self.fused is not None:
            dys = [np.concatenate(dys, axis=-1)]
        found = [
            linear.apply_backward(dy, kept)
            for linear, dy, kept in zip(self.linears.values(), dys, cache.linears, strict=True)
        ]
        grads: Grads = {}
        for name, (_, part) in zip(self.children, found, strict=True):
            grads |= prefixed(name, part)
        dx = found[0][0]
        for other, _ in found[1:]:
            dx += other
        return dx, grads
