"""The safetensors format: a header in JSON, followed by the bytes of all arrays.

The package of that name is not used, because it holds the content twice while it reads (a map and
the arrays) and writes (all arrays as bytes). The metadata of a file written here contains the
CRC-32 of its header, computed with zeros in place of its digits, and of each array in order, each
as eight hexadecimal digits.
"""

import json
import math
import zlib
from collections.abc import Mapping
from itertools import pairwise
from typing import IO, Any

import numpy as np

from numpy_xlstm.documents import parse_json
from numpy_xlstm.errors import CheckpointError, MissingExtraError
from numpy_xlstm.numerics import Array

CHECKSUM = "numpy_xlstm_crc32"
"""Name of the checksums of this package in a file."""

ZEROS = "0" * 8
"""Digits in place of the header's own checksum while it is computed."""

MAX_AXES = 64
"""Largest number of axes of a NumPy array."""

MAX_ARRAYS = 10_000
"""Largest number of arrays in a file."""

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
"""Names of the dtypes in the format, and in NumPy and ml_dtypes."""

CODES = {name: code for code, name in DTYPES.items()}

FLOATS = "float16", "bfloat16", "float32", "float64"
"""Dtypes in which parameters can be stored, and to which arrays can be rounded."""

CHUNK = 1 << 20
"""Count of numbers that are converted to another dtype at a time."""

Entry = tuple[str, tuple[int, ...], int, int | None]
"""Name of the dtype in NumPy or ml_dtypes, shape, offset of the first byte from the end of the
header, and CRC-32 if the header contains it."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the little-endian dtype with this name."""
    if name != "bfloat16":
        plain: np.dtype[Any] = np.dtype(name).newbyteorder("<")
        return plain
    try:
        import ml_dtypes
    except ImportError as error:
        raise MissingExtraError(
            "bfloat16 needs the cli extra: pip install 'numpy-xlstm[cli]'"
        ) from error
    narrow: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return narrow


def parse_header(text: bytes, size: int) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the arrays and the metadata of a header that is followed by ``size`` bytes.

    A :class:`ValueError` is raised unless the arrays cover each of these bytes once.
    """
    header = parse_json(text)
    if not isinstance(header, dict):
        raise ValueError("a header that is not a mapping")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__: expected a mapping of strings")
    if any(differs_in_one_letter(name, CHECKSUM) for name in metadata):
        raise ValueError(f"expected {CHECKSUM}; got a damaged name, which would turn checks off")
    if len(header) > MAX_ARRAYS:
        raise ValueError(f"expected at most {MAX_ARRAYS:,} arrays; got {len(header):,}")
    entries = {name: _entry(name, fields) for name, fields in header.items()}
    position = 0
    for name, (_, _, start, end) in sorted(entries.items(), key=lambda entry: entry[1][2:]):
        if start != position:
            raise ValueError(f"{name}: expected its bytes from {position}; got from {start}")
        position = end
    if position != size:
        raise ValueError(f"expected {position} bytes of arrays; got {size}")
    crcs: list[int | None] = [None] * len(entries)
    if CHECKSUM in metadata:
        digits = metadata[CHECKSUM]
        own = zlib.crc32(with_own_checksum(text, digits[:8], ZEROS))
        if digits[:8] != f"{own:08x}" or len(digits) != 8 * (len(entries) + 1):
            raise ValueError("the checksum does not match its header")
        crcs[:] = [int(digits[at : at + 8], 16) for at in range(8, len(digits), 8)]
    pairs = zip(entries.items(), crcs, strict=True)
    return {name: (*entry[:3], crc) for (name, entry), crc in pairs}, metadata


def differs_in_one_letter(word: str, other: str) -> bool:
    """Return whether two words of the same length differ in exactly one letter."""
    return len(word) == len(other) and sum(a != b for a, b in zip(word, other, strict=True)) == 1


def with_own_checksum(header: bytes, old: str, new: str) -> bytes:
    """Replace the digits of the header's own checksum, which are the first of all."""
    before = f'"{CHECKSUM}":"'.encode()
    return header.replace(before + old.encode(), before + new.encode(), 1)


def _entry(name: str, fields: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Return dtype, shape, and offsets of the first byte and of the end."""
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name}: expected dtype, shape and data_offsets; got {str(fields)[:80]}")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name}: expected a dtype among {', '.join(DTYPES)}; got {dtype!s:.40}")
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        whole = (
            isinstance(numbers, list)
            and len(numbers) <= MAX_AXES
            and all(type(n) is int and n >= 0 for n in numbers)
        )
        if not whole or (what == "data_offsets" and len(numbers) != 2):
            got = str(numbers)[:80]
            raise ValueError(f"{name}: expected {what} as a list of whole numbers; got {got}")
    dtype = DTYPES[dtype]
    nbytes = math.prod(shape) * itemsize(dtype)
    if offsets[1] - offsets[0] != nbytes:
        raise ValueError(f"{name}: expected {nbytes} bytes; got {offsets[1] - offsets[0]}")
    if math.prod(n or 1 for n in shape) * itemsize(dtype) >= 2**63:  # too large for NumPy
        raise ValueError(f"{name}: expected a smaller shape; got {str(shape)[:80]}")
    return dtype, tuple(shape), offsets[0], offsets[1]


def itemsize(dtype: str) -> int:
    """Return the size of a number in bytes."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def write_safetensors(
    file: IO[bytes],
    arrays: Mapping[str, Array],
    dtypes: Mapping[str, str],
    metadata: Mapping[str, str],
) -> None:
    """Write arrays, each rounded to its dtype.

    The header is written twice, because its checksums are known only at the end.
    """
    ends = np.cumsum([0, *(a.size * itemsize(dtypes[name]) for name, a in arrays.items())]).tolist()

    def header(crcs: list[int]) -> bytes:
        """Return the length and the header with its own checksum and those of the arrays."""
        digits = "".join(f"{crc:08x}" for crc in [0, *crcs])
        content: dict[str, Any] = {"__metadata__": {**metadata, CHECKSUM: digits}}
        for (name, array), offsets in zip(arrays.items(), pairwise(ends), strict=True):
            entry = {"dtype": CODES[dtypes[name]], "shape": list(array.shape)}
            content[name] = entry | {"data_offsets": list(offsets)}
        text = json.dumps(content, separators=(",", ":")).encode("utf-8")
        text += b" " * (-len(text) % 8)
        text = with_own_checksum(text, ZEROS, f"{zlib.crc32(text):08x}")
        return len(text).to_bytes(8, "little") + text

    begin = header([0] * len(arrays))
    try:
        parse_header(begin[8:], ends[-1])
    except ValueError as error:
        raise CheckpointError(
            f"header: expected one that a .safetensors file can hold; got another ({error})"
        ) from None
    crcs: list[int] = []
    file.write(begin)
    for name, array in arrays.items():
        dtype, flat = numpy_dtype(dtypes[name]), np.ascontiguousarray(array).reshape(-1)
        crc = 0
        for start in range(0, flat.size, CHUNK):
            # copied, because another thread may change the array between checksum and write
            part = narrowed(name, flat[start : start + CHUNK], dtype).tobytes()
            crc = zlib.crc32(part, crc)
            file.write(part)
        crcs.append(crc)
    file.seek(0)
    file.write(header(crcs))


def narrowed(name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """Convert an array to another dtype, or raise an error if a number is out of its range.

    Numbers are rounded to the nearest number of the dtype.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        rounded = array.astype(dtype)
    if array.dtype.name != dtype.name and not np.isfinite(rounded).all():
        largest = float(np.abs(array).max())
        raise CheckpointError(f"{name}: expected numbers that {dtype.name} holds; got ±{largest:g}")
    return rounded
