"""Where an entry of a tensor is, and what a set of entries has in common, in words.

A layer may name the axes of its tensors by an attribute ``tensor_axes``, a dict from the names of
tensors to patterns such as ``"(gate=ifzo unit) input"``: parentheses join the parts of one axis,
the slowest first. ``gate=ifzo`` names four values, ``head=2`` counts two, and a name alone takes
the size that is left.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from numpy_xlstm.errors import ShapeError

Index = tuple[int, ...]
Part = tuple[str, Sequence[Any]]
"""A name and its values."""


class Places:
    """The entries of one tensor, by their index and, given a pattern, by name."""

    def __init__(self, name: str, shape: Index, pattern: str = "") -> None:
        self.shape, self.named = shape, bool(pattern)
        plain = [(f"axis {n} =", range(size)) for n, size in enumerate(shape)]
        self.parts = _parse(name, shape, pattern) if pattern else plain

    def describe(self, index: Index) -> str:
        """``[3, 2] (gate f, unit 1, input 2)``, or the index alone."""
        values = [f"{name} {values[0]}" for name, values in self._values([index])]
        return str(list(index)) + (f" ({', '.join(values)})" if self.named else "")

    def in_common(self, indices: Sequence[Index]) -> str:
        """``, all of gate f``, up to three values each; nothing of a single entry."""
        found = [
            f"{name} {' or '.join(map(str, values))}"
            for (name, values), (_, all_values) in zip(
                self._values(indices), self.parts, strict=True
            )
            if len(values) < min(len(all_values), 4)
        ]
        return f", all of {', '.join(found)}" if found and len(indices) > 1 else ""

    def _values(self, indices: Sequence[Index]) -> list[Part]:
        """Which values of each part occur, in their order."""
        if not self.parts:
            return []
        flat = [np.ravel_multi_index(index, self.shape) for index in indices]
        places = np.unravel_index(flat, [len(values) for _, values in self.parts])
        return [
            (name, [values[n] for n in np.unique(place)])
            for (name, values), place in zip(self.parts, places, strict=True)
        ]


def _parse(name: str, shape: Index, pattern: str) -> list[Part]:
    """The parts of all axes, in the order of the entries."""
    groups = [
        (joined or single).split() for joined, single in re.findall(r"\(([^)]*)\)|(\S+)", pattern)
    ]
    axes = [_parts(group, size) for group, size in zip(groups, shape, strict=False)]
    sizes = tuple(math.prod(len(values) for _, values in axis) for axis in axes)
    if len(groups) != len(shape) or sizes != shape:
        raise ShapeError(
            f"gradcheck: expected tensor_axes[{name!r}] for the shape {shape}; got {pattern!r}"
        )
    return [part for axis in axes for part in axis]


def _parts(tokens: list[str], size: int) -> list[Part]:
    """The parts of one axis; a name alone takes the size that is left."""
    pairs = [token.partition("=")[::2] for token in tokens]
    known = {name: range(int(v)) if v.isdigit() else v for name, v in pairs if v}
    left = size // max(1, math.prod(len(values) for values in known.values()))
    return [(name, known.get(name, range(left))) for name, _ in pairs]
