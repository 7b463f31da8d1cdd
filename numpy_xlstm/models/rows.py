"""A layer over the rows of a batch on several cores: each core takes its own rows.

The rows of a batch have nothing to do with each other but for the parameters, whose gradients are
summed. Where there is one core, or little work, all rows are one part.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread

Grads = dict[str, Array]
Forward = Callable[[Array, Any], tuple[Array, Any, Any]]
"""From x and a state to y, the state after it, and a cache."""
Backward = Callable[[Array, Any, Any], tuple[Array, Any, Grads]]
"""From the cotangent of y, the cache and the cotangent of the state to the gradients."""

WORTH_THREADS = 2**16
"""Numbers in x from which on several threads are faster than one."""


class RowsCache(NamedTuple):
    """The caches of the parts."""

    parts: tuple[slice, ...]
    """Which rows each part has."""
    caches: tuple[Any, ...]


def parts_of(x: Array) -> tuple[slice, ...]:
    """Cut the rows of x (B, T, D) into one part per core that is worth its thread."""
    count = num_threads() if len(x) > 1 and x.size >= WORTH_THREADS else 1
    return tuple(spread(len(x), count))


def forward_rows(
    forward: Forward, x: Array, state: Any, parts: tuple[slice, ...]
) -> tuple[Array, Any, RowsCache]:
    """Run ``forward`` on each part of the rows."""
    if len(parts) == 1:
        y, state, cache = forward(x, state)
        return y, state, RowsCache(parts, (cache,))
    found = parallel_map(lambda part: forward(x[part], rows_of(state, part)), parts)
    ys, states, caches = zip(*found, strict=True)
    return np.concatenate(ys), join_rows(states), RowsCache(parts, caches)


def backward_rows(
    backward: Backward, dy: Array, cache: RowsCache, dstate: Any
) -> tuple[Array, Any, Grads]:
    """Run ``backward`` on each part of the rows."""
    parts, caches = cache
    if len(parts) == 1:
        return backward(dy, caches[0], dstate)
    found = parallel_map(
        lambda n: backward(dy[parts[n]], caches[n], rows_of(dstate, parts[n])), range(len(parts))
    )
    dxs, dstates, grads = zip(*found, strict=True)
    total: Grads = grads[0]
    for other in grads[1:]:
        for name, array in other.items():
            total[name] += array
    return np.concatenate(dxs), join_rows(dstates), total


def rows_of(state: Any, part: slice) -> Any:
    """Some rows of a state, as views."""
    if isinstance(state, tuple):
        return _like(state, [rows_of(entry, part) for entry in state])
    return None if state is None else state[part]


def join_rows(states: tuple[Any, ...]) -> Any:
    """One state from those of some rows each."""
    first = states[0]
    if isinstance(first, tuple):
        return _like(first, [join_rows(entries) for entries in zip(*states, strict=True)])
    return None if first is None else np.concatenate(states)


def _like(state: tuple[Any, ...], entries: list[Any]) -> Any:
    return type(state)(*entries) if hasattr(state, "_fields") else tuple(entries)
