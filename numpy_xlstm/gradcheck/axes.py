"""Names of the axes of a tensor, and descriptions of its entries."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from numpy_xlstm.errors import ShapeError

Index = tuple[int, ...]
Part = tuple[str, Sequence[Any]]  # a name and its values


class Axes:
    """Axes of one tensor; they describe its entries by index and, with a pattern, by name.

    In a pattern such as ``"(gate=ifzo unit) input"`` parentheses join the parts of one axis, the
    slowest first. ``gate=ifzo`` has four named values, ``head=2`` has two numbered ones, and a name
    without a value has the remaining size.
    """

    def __init__(self, name: str, shape: Index, pattern: str = "") -> None:
        self.shape, self.named = shape, bool(pattern)
        self.parts: list[Part] = [(f"axis {n} =", range(size)) for n, size in enumerate(shape)]
        if pattern:
            tokens = re.findall(r"\(([^)]*)\)|(\S+)", pattern)
            groups = [(joined or single).split() for joined, single in tokens]
            axes = [_parts(group, size) for group, size in zip(groups, shape, strict=False)]
            sizes = tuple(math.prod(len(values) for _, values in axis) for axis in axes)
            if len(groups) != len(shape) or sizes != shape:
                raise ShapeError(
                    f"gradcheck: expected tensor_axes[{name!r}] for the shape {shape}; "
                    f"got {pattern!r}"
                )
            self.parts = [part for axis in axes for part in axis]

    def describe(self, index: Index) -> str:
        """Return text such as ``[3, 2] (gate f, unit 1, input 2)``, or only the index."""
        values = [f"{name} {seen[0]}" for name, _, seen in self._values([index])]
        return str(list(index)) + (f" ({', '.join(values)})" if self.named else "")

    def in_common(self, indices: Sequence[Index]) -> str:
        """Return text such as ``, all in gate f``, with up to three values for each name.

        It is empty for a single entry.
        """
        shared = [
            f"{name} {' or '.join(map(str, seen))}"
            for name, values, seen in self._values(indices)
            if len(seen) < min(len(values), 4)
        ]
        return f", all in {', '.join(shared)}" if shared and len(indices) > 1 else ""

    def _values(self, indices: Sequence[Index]) -> Iterator[tuple[str, Sequence[Any], list[Any]]]:
        """Yield each part with its values, and with the values that occur, in order."""
        if not self.parts:
            return
        flat = [np.ravel_multi_index(index, self.shape) for index in indices]
        places = np.unravel_index(flat, [len(values) for _, values in self.parts])
        for (name, values), place in zip(self.parts, places, strict=True):
            yield name, values, [values[n] for n in np.unique(place)]


def _parts(tokens: list[str], size: int) -> list[Part]:
    """Parse the parts of one axis. A name without a value has the remaining size."""
    pairs = [token.partition("=")[::2] for token in tokens]
    known = {name: range(int(v)) if v.isdigit() else v for name, v in pairs if v}
    left = size // max(1, math.prod(len(values) for values in known.values()))
    return [(name, known.get(name, range(left))) for name, _ in pairs]
