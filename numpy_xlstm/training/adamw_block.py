"""Blocks: the parts of a parameter that AdamW updates at a time."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np

from numpy_xlstm.kernels import adamw
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import num_threads, parallel_map

BLOCK = 2**15
"""Count of numbers that are updated at a time, so that they fit into the processor's cache.

A compiled kernel needs less memory and takes blocks of four times this size.
"""

SHARE = 2**19
"""Count of numbers for which an additional thread is worthwhile."""

Result = TypeVar("Result")


class Block(NamedTuple):
    """A part of a parameter p with gradient g, moments m and v, and the factors of a step."""

    name: str
    p: Array
    g: Array
    m: Array
    v: Array
    scale: float  # of g
    factors: adamw.Factors

    def update(self) -> None:
        """Update p, m and v in place."""
        adamw.update(*self[1:])

    def is_harmless(self) -> bool:
        """Return whether a simple bound proves finite results, as in every ordinary step."""
        (P, G, M, V), by = adamw.norms(*self[1:5]).tolist(), self.factors
        G *= self.scale
        bound = abs(by.shrink) * P + (1 + by.rate) * (G + M) / by.eps + V + G * G
        return bool(bound < float(np.finfo(self.p.dtype).max) / 2)


def on_threads(work: Callable[[Block], Result], blocks: Sequence[Block]) -> list[Result]:
    """Run the work on each block, in any order."""
    count = 1 + sum(block.p.size for block in blocks) // SHARE
    count = 1 if count == 1 else min(count, num_threads())
    shares = [blocks[n::count] for n in range(count)]
    return list(chain(*parallel_map(lambda share: [work(block) for block in share], shares)))


def cut(most: int, *arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Split arrays of one shape by rows into parts of about ``most`` numbers."""
    size = arrays[0].size
    if size <= most:
        yield arrays
        return
    total = len(arrays[0])
    rows = max(1, most * total // size)
    for start in range(0, total, rows):
        yield tuple(array[start : start + rows] for array in arrays)
