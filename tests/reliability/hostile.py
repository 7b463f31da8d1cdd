"""Changes of the files of a checkpoint, as hypothesis strategies."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from numpy_xlstm.checkpoints import read_arrays, write_arrays
from tests.checkpoints.build import (
    CHECKSUM,
    read_config,
    read_safetensors,
    sealed,
    write_config,
    write_safetensors,
)

Change = Callable[[Path], None]
"""Function that changes one file."""

PLACES = st.one_of(st.floats(0, 1), st.integers(0, 400), st.integers(-400, -1))
"""Position in a file: a fraction of its length, or bytes from either end, near headers."""

PIECES = st.one_of(
    st.binary(min_size=1, max_size=16),
    st.sampled_from((b"\0" * 64, b"\xff" * 64, b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b'":[')),
    st.sampled_from((0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)).map(
        lambda n: n.to_bytes(8, "little")
    ),
)
WAYS = "cut", "insert", "put", "drop", "flip", "repeat", "zero"


def edited(data: bytes, way: str, place: float, piece: bytes) -> bytes:
    """Change bytes at a position."""
    at = round(place * len(data)) if isinstance(place, float) else place % max(1, len(data))
    size = 1 + piece[0] * len(data) // 1000
    before, after = data[:at], data[at:]
    return {
        "cut": before,
        "insert": before + piece + after,
        "put": before + piece + after[len(piece) :],
        "drop": before + after[size:],
        "flip": before + bytes([after[0] ^ 1 << piece[0] % 8]) + after[1:] if after else before,
        "repeat": before + after[:size] + after,
        "zero": before + bytes(min(size, len(after))) + after[size:],
    }[way]


def bytes_changed(edits: list[tuple[str, float, bytes]]) -> Change:
    def change(file: Path) -> None:
        data = file.read_bytes()
        for edit in edits:
            data = edited(data, *edit)
        file.write_bytes(data)

    return change


bytes_changes = st.lists(
    st.tuples(st.sampled_from(WAYS), PLACES, PIECES), min_size=1, max_size=3
).map(bytes_changed)


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
LARGE = {"<deep>": deep(300), "<long>": [0] * 100_000, "<text>": "x" * 10_000}
"""Large values, which are drawn by their names for short reports."""

VALUES = st.one_of(
    st.sampled_from(ODD), st.sampled_from([*LARGE]), st.integers(), st.text(max_size=9)
)
"""Values of a field, valid or invalid."""


def fields(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Return all positions in a JSON tree, as containers and keys."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from fields(tree[key])


def replaced(tree: Any, way: str, where: int, value: Any) -> Any:
    """Change one field of a JSON tree."""
    tree = copy.deepcopy(tree)
    value = LARGE.get(value, value) if isinstance(value, str) else value
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


tree_edits = st.tuples(
    st.sampled_from(("put", "put", "put", "drop", "rename", "double", "whole")),
    st.integers(0, 10_000),
    VALUES,
)


def changes_of_tree(read: Callable[[Path], Any], write: Callable[[Path, Any], None]) -> Any:
    """Return changes of a JSON tree in a file that keep the format valid."""

    def changed(edits: list[tuple[str, int, Any]]) -> Change:
        def change(file: Path) -> None:
            tree = read(file)
            for edit in edits:
                tree = replaced(tree, *edit)
            write(file, tree)

        return change

    return st.lists(tree_edits, min_size=1, max_size=2).map(changed)


def write_header(file: Path, header: Any) -> None:
    """Write the header with correct checksums, if it still has a place for them."""
    data = read_safetensors(file)[1]
    try:
        text = sealed(header, data)
    except (AttributeError, TypeError, ValueError):
        text = json.dumps(header).encode()
    write_safetensors(file, text, data)


def write_metadata(file: Path, metadata: Any) -> None:
    """Write the metadata with a correct checksum, if that is possible."""
    write_arrays(
        file, read_arrays(file)[0], metadata if isinstance(metadata, dict) else {"a": metadata}
    )


def without_checksum(file: Path) -> None:
    """Write a file with arrays in the form of another package."""
    if file.suffix == ".safetensors":
        header, data = read_safetensors(file)
        header.get("__metadata__", {}).pop(CHECKSUM, None)
        write_safetensors(file, header, data)


config_changes = changes_of_tree(read_config, write_config)
header_changes = changes_of_tree(lambda file: read_safetensors(file)[0], write_header)
metadata_changes = changes_of_tree(lambda file: read_arrays(file)[1], write_metadata)


def arrays_changed(edit: tuple[str, int, str]) -> Change:
    """Change one array, and write a correct checksum."""
    way, where, dtype = edit

    def change(file: Path) -> None:
        arrays, metadata = read_arrays(file)
        name = sorted(arrays)[where % len(arrays)]
        array = arrays.pop(name)
        found = {
            "drop": [],
            "rename": [(name + "x", array)],
            "more": [(name, array), (f"{name}.more", array)],
            "dtype": [(name, array.astype(dtype))],
            "flat": [(name, array.reshape(-1))],
            "turned": [(name, array.T[None])],
            "none": [(name, array.reshape(-1)[:0])],
            "nan": [(name, np.full_like(array, np.nan if array.dtype.kind == "f" else 0))],
        }[way]
        write_arrays(file, arrays | dict(found), metadata)

    return change


array_changes = st.tuples(
    st.sampled_from(("drop", "rename", "more", "dtype", "flat", "turned", "none", "nan")),
    st.integers(0, 1000),
    st.sampled_from(("f2", "f8", "i4", "u1", "?")),
).map(arrays_changed)
