"""Random changes of the files of a checkpoint."""

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.errors import CheckpointError
from tests.checkpoints.build import (
    CHECKSUM,
    read_config,
    read_safetensors,
    sealed,
    write_config,
    write_safetensors,
)

PIECES: tuple[bytes, ...] = (
    *(b"\0" * 64, b"\xff" * 64, b"PK\x03\x04", b"\x93NUMPY", b'":['),
    *(n.to_bytes(8, "little") for n in (1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)),
)
WAYS = "cut", "insert", "put", "drop", "flip", "repeat", "zero"


def bytes_changed(data: bytes, rng: np.random.Generator) -> bytes:
    """Change one to three places, half of them near an end, where headers are."""
    for _ in range(rng.integers(1, 4)):
        near = int(rng.integers(-400, 401)) % max(1, len(data))
        at = near if rng.random() < 0.5 else int(rng.integers(len(data) + 1))
        piece = rng.bytes(int(rng.integers(1, 17)))
        if rng.random() < 0.7:
            piece = PIECES[rng.integers(len(PIECES))]
        before, after, size = data[:at], data[at:], 1 + piece[0] * len(data) // 1000
        data = {
            "cut": before,
            "insert": before + piece + after,
            "put": before + piece + after[len(piece) :],
            "drop": before + after[size:],
            "flip": before + bytes([(after or b"\0")[0] ^ 1 << piece[0] % 8]) + after[1:],
            "repeat": before + after[:size] + after,
            "zero": before + bytes(min(size, len(after))) + after[size:],
        }[WAYS[rng.integers(len(WAYS))]]
    return data


def deep(levels: int) -> Any:
    tree: Any = []
    for n in range(levels):
        tree = [tree] if n % 2 else {"a": tree}
    return tree


ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2, 3, 7, 10**4, 10**8, 10**30, 0.5, -0.5, 1e308, 1e-320),
    *("", "1", "vanilla", "\x1b[31m\x07", "/dev/zero", "../../etc/passwd"),
    *([], {}, [1], [None], {"a": 1}),
)
LARGE = deep(300), [0] * 100_000, "x" * 10_000


def fields(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Return all positions in a JSON tree, as containers and keys."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from fields(tree[key])


def replaced(tree: Any, way: str, where: int, value: Any) -> Any:
    tree = copy.deepcopy(tree)
    places = list(fields(tree)) if isinstance(tree, dict | list) else []
    if way == "whole" or not places:
        return value
    container, key = places[where % len(places)]
    if way == "drop" or (way == "rename" and isinstance(container, list)):
        del container[key]
    elif way == "rename":
        container[str(value)[:99]] = container.pop(key)
    elif way == "double":
        other, name = places[where // 7 % len(places)]
        container[key] = copy.deepcopy(other[name])
    else:
        container[key] = value
    return tree


def tree_changed(tree: Any, rng: np.random.Generator, values: Sequence[Any]) -> Any:
    """Change one or two fields of a JSON tree to some of these values."""
    ways = "put", "put", "put", "drop", "rename", "double", "whole"
    for _ in range(rng.integers(1, 3)):
        value, where = values[int(rng.integers(len(values)))], int(rng.integers(10_000))
        tree = replaced(tree, ways[rng.integers(len(ways))], where, value)
    return tree


def array_changed(arrays: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Remove, rename, add or change one array."""
    name, dtypes = sorted(arrays)[rng.integers(len(arrays))], ("f2", "f8", "i4", "u1", "?")
    array = arrays.pop(name)
    changes: list[dict[str, Any]] = [
        {},
        {name + "x": array},
        {name: array, f"{name}.more": array},
        {name: array.astype(dtypes[rng.integers(len(dtypes))])},
        {name: array.reshape(-1)},
        {name: array.T[None]},
        {name: array.reshape(-1)[:0]},
        {name: np.full_like(array, np.nan if array.dtype.kind == "f" else 0)},
    ]
    return arrays | changes[rng.integers(len(changes))]


def change(file: Path, own: bool, n: int, rng: np.random.Generator) -> None:
    """Make the n-th change of a file: of its bytes, or of what it holds in a valid format.

    The checksums of a file of our own are then correct.
    """
    values = [*ODD, *LARGE, int(rng.integers(-(2**62), 2**62)), rng.bytes(9).decode("latin-1")]
    if n % 2 == 0 or file.suffix not in (".json", ".yaml", ".safetensors"):
        file.write_bytes(bytes_changed(file.read_bytes(), rng))
    elif file.suffix in (".json", ".yaml"):
        write_config(file, tree_changed(read_config(file), rng, values))
    elif not own:
        header, data = read_safetensors(file)
        header = tree_changed(header, rng, values)
        try:
            text = sealed(header, data)
        except (AttributeError, TypeError, ValueError):  # it has no place for checksums
            text = json.dumps(header).encode()
        write_safetensors(file, text, data)
    else:
        arrays, metadata = read_arrays(file)
        if n % 4 == 1:
            metadata = tree_changed(metadata, rng, values)
        else:
            arrays = array_changed(arrays, rng)
        with suppress(CheckpointError):  # the change cannot be written
            write_arrays(file, arrays, metadata if isinstance(metadata, dict) else {"a": metadata})


def without_checksum(file: Path) -> None:
    """Write a file with arrays in the form of another package."""
    if file.suffix == ".safetensors":
        header, data = read_safetensors(file)
        header.get("__metadata__", {}).pop(CHECKSUM, None)
        write_safetensors(file, header, data)
