"""Several linear maps of the same input, stored apart or as one matrix."""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers.linear import Linear, LinearCache
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array


class LinearGroupCache(NamedTuple):
    """What the backward of :class:`LinearGroup` needs: the caches of its maps."""

    linears: tuple[LinearCache, ...]


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
        return list(outputs), LinearGroupCache(caches)

    def compute_backward(self, dys: list[Array], cache: LinearGroupCache) -> tuple[Array, Grads]:
        """Backward, without checks, from the cotangents of all outputs."""
        if self.fused is not None:
            dys = [np.concatenate(dys, axis=-1)]
        dxs, grads = zip(
            *[
                linear.compute_backward(dy, kept)
                for linear, dy, kept in zip(self.linears, dys, cache.linears, strict=True)
            ],
            strict=True,
        )
        return sum(dxs[1:], dxs[0]), self.named_grads(**dict(zip(self.parts, grads, strict=True)))
