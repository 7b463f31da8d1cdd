"""Trees of arrays in npz files, each as one vector with a label for each leaf.

A label is a name and a shape, such as ``state.C (2, 3)``. Few long arrays need less space in a file
than many short ones, and nothing is pickled.
"""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild

FILES = Path(__file__).parent
Named = dict[str, Array]
Tables = dict[str, dict[str, Named]]
"""Names of cases, names of their trees, such as the gradients, and names of leaves."""


def named(tree: Any) -> Named:
    """Return the names and leaves of a state or an array, or the arrays of a dict."""
    return dict(tree) if isinstance(tree, Mapping) else dict(leaves("", tree))


def like(tree: Any, arrays: Named) -> Any:
    """Return a tree with the structure of ``tree`` and with these leaves."""
    return rebuild(tree, (arrays[name] for name, _ in leaves("", tree)))


def save(file: str, tables: Tables) -> None:
    packed: dict[str, Any] = {}
    for case, trees in tables.items():
        for key, arrays in trees.items():
            labels = [f"{name} {array.shape}" for name, array in arrays.items()]
            packed[f"{case}/{key}"] = np.concatenate([a.ravel() for a in arrays.values()])
            packed[f"{case}/{key}/leaves"] = np.array(labels)
    np.savez_compressed(FILES / file, allow_pickle=False, **packed)


def load(file: str) -> Tables:
    tables: Tables = {}
    with np.load(FILES / file, allow_pickle=False) as packed:
        for entry in packed.files:
            if not entry.endswith("/leaves"):
                case, key = entry.split("/")
                split = _split(packed[entry], packed[f"{entry}/leaves"])
                tables.setdefault(case, {})[key] = dict(split)
    return tables


def _split(vector: Array, labels: Any) -> Iterator[tuple[str, Array]]:
    start = 0
    for label in map(str, labels):
        name, _, sizes = label.partition(" ")
        shape = tuple(int(n) for n in sizes.strip("()").split(",") if n.strip())
        yield name, vector[start : start + prod(shape)].reshape(shape)
        start += prod(shape)
