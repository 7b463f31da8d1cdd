"""Nested tuples, lists and dicts of arrays, such as states: flattening, rebuilding, joining."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array, plain_array


def places(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a tree with their paths, such as ``state.0.c``; None is not a leaf."""
    if isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from places(f"{name}.{key}", part)
    elif isinstance(tree, tuple | list):
        fields = getattr(tree, "_fields", range(len(tree)))
        for field, part in zip(fields, tree, strict=True):
            yield from places(f"{name}.{field}", part)
    elif tree is not None:
        yield name, tree


def leaves(name: str, tree: Any) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of a tree with their paths, as :func:`places` does."""
    return ((place, plain_array(place, leaf)) for place, leaf in places(name, tree))


def rebuild(tree: Any, values: Iterator[Any]) -> Any:
    """Return the tree with its arrays replaced, in the order of :func:`leaves`."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: rebuild(part, values) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        return put_together(tree, [rebuild(part, values) for part in tree])
    return next(values)


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Call ``function`` with the arrays at each place of trees of the same structure.

    Examples
    --------
    >>> tree_map(lambda a, b: a[:1] + b, (np.array([1, 2]), None), (np.array([10]), None))
    (array([11]), None)
    """
    arrays = [[array for _, array in leaves("array", other)] for other in (tree, *others)]
    return rebuild(tree, itertools.starmap(function, zip(*arrays, strict=True)))


def zeros_like(tree: Any) -> Any:
    """Return a tree of zeros with the structure, shapes and dtypes of a tree."""
    return tree_map(lambda array: np.zeros(array.shape, array.dtype), tree)


def rows_of(tree: Any, rows: slice) -> Any:
    """Return some rows of every array of a state; :func:`join_states` joins them again."""
    return tree_map(lambda array: array[rows], tree)


def join_states(states: Sequence[Any]) -> Any:
    """Join states, nested tuples of arrays and None, along the first axis of every array.

    Plain and named tuples can be mixed; the result has the type of the first.

    Examples
    --------
    >>> c, n = join_states([(np.zeros((1, 3)), None), (np.ones((2, 3)), None)])
    >>> c.shape, n
    ((3, 3), None)
    """
    if not isinstance(states, Sequence) or isinstance(states, str | bytes) or not states:
        raise ShapeError(f"states: expected a sequence of at least one; got {states!r}")
    structures = [rebuild(state, itertools.repeat(0)) for state in states]
    if structures.count(structures[0]) < len(states):
        raise ShapeError(f"states: expected the same structure in all; got {structures}")
    if len(states) == 1:
        return states[0]
    parts = [[a for _, a in leaves(f"states.{n}", state)] for n, state in enumerate(states)]
    return rebuild(states[0], map(np.concatenate, zip(*parts, strict=True)))


def put_together(tree: Any, parts: list[Any]) -> Any:
    """Combine parts in the type of ``tree``: a tuple, a named tuple or a list."""
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
