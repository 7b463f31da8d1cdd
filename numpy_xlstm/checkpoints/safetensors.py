"""The safetensors format: a header in JSON, then the bytes of all arrays.

Read and written here and not with the package of that name, which holds a file twice while it is
read (the map and the arrays) and while it is written (all arrays as bytes).
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import CheckpointError, MissingExtraError
from numpy_xlstm.numerics import Array

MAX_HEADER = 100_000_000
"""The most bytes that the format grants a header."""

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
"""What the format calls the dtypes, and what NumPy and ml_dtypes do."""

CODES = {name: code for code, name in DTYPES.items()}

CHUNK = 1 << 20
"""How many numbers are brought into another dtype at once."""


class Entry(NamedTuple):
    """What the header says of an array."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """Its first byte, counted from the end of the header."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the little-endian dtype of this name.

    Raises
    ------
    MissingExtraError
        For bfloat16 where the package ``ml_dtypes`` is not installed.
    """
    if name != "bfloat16":
        plain: np.dtype[Any] = np.dtype(name).newbyteorder("<")
        return plain
    try:
        import ml_dtypes
    except ImportError as error:
        raise MissingExtraError(
            "bfloat16 needs the checkpoints extra: pip install 'numpy-xlstm[checkpoints]'"
        ) from error
    narrow: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return narrow


def parse_header(text: bytes, size: int) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the arrays and the metadata of a header whose file has ``size`` bytes behind it.

    Raises
    ------
    ValueError
        If it is no such header, or its arrays do not fill these bytes, each once.
    """
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_name_twice)
    if not isinstance(header, dict):
        raise ValueError("a header that is no mapping")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__: expected texts by name")
    entries, places = {}, []
    for name, found in header.items():
        entry, end = _entry(name, found)
        entries[name] = entry
        places.append((entry.start, end, name))
    position = 0
    for start, end, name in sorted(places):
        if start != position:
            raise ValueError(f"{name}: expected its bytes from {position}; got from {start}")
        position = end
    if position != size:
        raise ValueError(f"expected {position} bytes of arrays; got {size}")
    return entries, metadata


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice}: expected one entry; got two")
    return dict(pairs)


def _entry(name: str, found: Any) -> tuple[Entry, int]:
    """Check what is said of one array; return it, and where its bytes end."""
    if not isinstance(found, dict) or found.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name}: expected dtype, shape and data_offsets; got {str(found)[:80]}")
    dtype, shape, offsets = found["dtype"], found["shape"], found["data_offsets"]
    if dtype not in DTYPES:
        raise ValueError(f"{name}: expected a dtype of {', '.join(DTYPES)}; got {str(dtype)[:40]}")
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        whole = isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers)
        if not whole or (what == "data_offsets" and len(numbers) != 2):
            raise ValueError(f"{name}: expected a {what} of whole numbers; got {str(numbers)[:80]}")
    nbytes = math.prod(shape) * _itemsize(dtype)
    if offsets[1] - offsets[0] != nbytes:
        raise ValueError(f"{name}: expected {nbytes} bytes; got {offsets[1] - offsets[0]}")
    return Entry(dtype, tuple(shape), offsets[0]), offsets[1]


def _itemsize(code: str) -> int:
    return 1 if code == "BOOL" else int(code.lstrip("BFIU")) // 8


def read_into(file: Any, flat: Array, stored: np.dtype[Any]) -> None:
    """Fill an array (n,) with what is in a raw file, there of dtype ``stored``."""
    if flat.dtype == stored:
        _fill(file, flat)
        return
    buffer = np.empty(min(CHUNK, flat.size), stored)
    for start in range(0, flat.size, CHUNK):
        part = buffer[: flat.size - start]
        _fill(file, part)
        flat[start : start + CHUNK] = part


def _fill(file: Any, array: Array) -> None:
    left = array.view(np.uint8).data
    while left:
        got = file.readinto(left)
        if not got:
            raise ValueError(f"{len(left)} bytes missing")
        left = left[got:]


def write_safetensors(
    file: IO[bytes],
    arrays: Mapping[str, Array],
    dtypes: Mapping[str, str],
    metadata: Mapping[str, str],
) -> Iterator[int]:
    """Write arrays, each rounded to its dtype; yield how many bytes each of them has taken."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, array in arrays.items():
        end = position + array.size * numpy_dtype(dtypes[name]).itemsize
        entry = {"dtype": CODES[dtypes[name]], "shape": list(array.shape)}
        header[name] = entry | {"data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name, array in arrays.items():
        dtype, flat = numpy_dtype(dtypes[name]), np.ascontiguousarray(array).reshape(-1)
        for start in range(0, flat.size, CHUNK):
            part = narrowed(name, flat[start : start + CHUNK], dtype)
            file.write(part.view(np.uint8).data)
        yield flat.size * dtype.itemsize


def narrowed(name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array in another dtype, or an error if it does not hold its numbers.

    Numbers are rounded to the nearest that the dtype has.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        found = array.astype(dtype)
    if array.dtype.kind == "f" and not np.isfinite(found).all():
        largest = np.abs(array).max()
        raise CheckpointError(f"{name}: expected numbers that {dtype.name} holds; got ±{largest:g}")
    return found
