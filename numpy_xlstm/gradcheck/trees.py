"""Nested tuples of arrays, such as states, as flat lists of named arrays and back."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from numpy_xlstm.numerics import Array


def leaves(name: str, tree: Any) -> Iterator[tuple[str, Array]]:
    """Walk over the arrays of a tree, named by their place: ``state.0.c``; None holds none."""
    if tree is None:
        return
    if isinstance(tree, tuple | list):
        fields = getattr(tree, "_fields", range(len(tree)))
        for field, part in zip(fields, tree, strict=True):
            yield from leaves(f"{name}.{field}", part)
    else:
        yield name, np.asarray(tree)


def rebuild(tree: Any, values: Iterator[Array]) -> Any:
    """Return the tree with its arrays replaced, in the order of :func:`leaves`."""
    if tree is None:
        return None
    if isinstance(tree, tuple | list):
        parts = [rebuild(part, values) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return next(values)
