"""Reading of the parameters and metadata of an ONNX file of this package.

No other package is needed: a file in Protocol Buffers is a nested list of numbered fields with
their lengths. The graph is skipped; metadata, names, dtypes, shapes and numbers have checksums.
"""

import itertools
import mmap
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy_xlstm.checkpoints.model import PREFIX
from numpy_xlstm.checkpoints.safetensors import CHECKSUM, MAX_ARRAYS, MAX_AXES, MAX_HEADER
from numpy_xlstm.checkpoints.tensors import HEADER_KEY, Opened, Stored, Tensors
from numpy_xlstm.errors import CheckpointError

NUMBERS = {"float32": 1, "float16": 10, "float64": 11, "bfloat16": 16}
"""ONNX's numbers of the dtypes of parameters."""

CONSTANT = "constant."
"""Prefix of initialisers that are not parameters."""

METADATA_PROPS, GRAPH, INITIALIZER = 14, 7, 5
DIMS, DATA_TYPE, NAME, RAW_DATA, EXTERNAL_DATA = 1, 2, 8, 9, 13
"""Numbers of fields of ONNX's messages."""

MAX_FIELDS = 1_000_000
"""Largest number of fields that are read in a file."""


def data_path(path: Path) -> Path:
    """Return the path of the parameters of a large model."""
    return path.with_name(f"{path.name}.data")


def checked_text(metadata: str, tensors: Iterable[Any]) -> bytes:
    """Return the bytes whose checksum guards metadata, names, dtypes and shapes."""
    lines = [f"{each.name} {each.data_type} {[*each.dims]}" for each in tensors]
    return "\n".join([metadata, *lines]).encode()


class _Tensor(NamedTuple):
    """An initialiser as it is described in a file."""

    name: str
    data_type: int
    dims: tuple[int, ...]
    raw: slice
    """Place of its bytes in the file."""
    external: Mapping[str, str]
    """Place of its bytes in another file; empty if they are in this one."""


def open_onnx(path: Path, file: Opened) -> Tensors:
    """Read names, shapes and metadata of an ONNX file of this package, but not its graph.

    Raises
    ------
    CheckpointError
        If this package has not written the file, or it describes parameters outside its files.
    ValueError, IndexError
        If the file is damaged.
    """
    with mmap.mmap(file.raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        count = itertools.count()
        metadata, tensors = dict[str, str](), dict[str, _Tensor]()
        for number, value in _fields(data, slice(0, file.size), count):
            if number == METADATA_PROPS:
                entry = dict(_fields(data, value, count))
                metadata[_text(data, entry[1])] = _text(data, entry[2])
            if number == GRAPH:
                for inner, place in _fields(data, value, count):
                    if inner == INITIALIZER:
                        each = _tensor(data, place, count)
                        if each.name in tensors or len(tensors) > 2 * MAX_ARRAYS:
                            raise ValueError(f"{each.name}: a name twice, or too many arrays")
                        tensors[each.name] = each
    if HEADER_KEY not in metadata or CHECKSUM not in metadata:
        raise CheckpointError(
            f"{path.name}: expected an ONNX file of a model that numpy_xlstm has written; got one "
            "without its configuration"
        )
    kept = [each for name, each in tensors.items() if not name.startswith(CONSTANT)]
    found = metadata[CHECKSUM]
    crcs = [int(found[n : n + 8], 16) for n in range(0, len(found), 8)]
    described = checked_text(metadata[HEADER_KEY], kept)
    if len(crcs) != len(kept) + 1 or crcs[0] != zlib.crc32(described):
        raise ValueError("the checksum does not match the metadata, names, dtypes and shapes")
    data_file = Opened(data_path(path)) if any(each.external for each in kept) else file
    arrays = {
        PREFIX + each.name: _stored(path, file, data_file, each, crc)
        for each, crc in zip(kept, crcs[1:], strict=True)
    }
    end = max((each.start + each.nbytes for each in arrays.values()), default=0)
    if data_file is not file and data_file.size > end:
        raise ValueError(f"{data_file.size - end} bytes after the last array")
    return Tensors(arrays, metadata, True, ".onnx")


def _stored(path: Path, file: Opened, data_file: Opened, each: _Tensor, crc: int) -> Stored:
    """Return the array of an initialiser, or raise an error if its bytes are not in a file."""
    dtypes = {number: name for name, number in NUMBERS.items()}
    if each.data_type not in dtypes or len(each.dims) > MAX_AXES or min(each.dims, default=0) < 0:
        raise ValueError(f"{each.name}: a dtype or shape that no parameter has")
    where, start, size = file, each.raw.start, each.raw.stop - each.raw.start
    if each.external:
        where, path = data_file, data_path(path)
        if each.external.get("location") != path.name:
            got = f"{each.external.get('location')!r:.80}"
            raise CheckpointError(f"{each.name}: expected an array in {path.name}; got {got}")
        start, size = (int(each.external[key]) for key in ("offset", "length"))
    found = Stored(path, each.name, dtypes[each.data_type], each.dims, where, start, crc)
    if found.nbytes != size or not 0 <= start <= where.size - size:
        raise ValueError(f"{each.name}: {size} bytes for an array of {found.nbytes}")
    return found


def _tensor(data: mmap.mmap, place: slice, count: Iterator[int]) -> _Tensor:
    """Read the description of an initialiser."""
    fields = list(_fields(data, place, count))
    external = {}
    for number, value in fields:
        if number == EXTERNAL_DATA:
            entry = dict(_fields(data, value, count))
            external[_text(data, entry[1])] = _text(data, entry[2])
    last: dict[int, Any] = dict(fields)
    dims = tuple(value for number, value in fields if number == DIMS)
    raw = last.get(RAW_DATA, slice(place.stop, place.stop))
    return _Tensor(_text(data, last[NAME]), last[DATA_TYPE], dims, raw, external)


def _fields(data: mmap.mmap, place: slice, count: Iterator[int]) -> Iterator[tuple[int, Any]]:
    """Yield the number of each field of a message, and its integer or the place of its bytes."""
    at = place.start
    while at < place.stop:
        if next(count) > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS:,} fields")
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of the unknown kind {kind}")
        size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + size > place.stop:
            raise ValueError(f"a field of {size} bytes, which ends after its message")
        yield number, slice(at, at + size)
        at += size


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """Return the integer that begins at an offset, of at most 64 bits, and the offset after it."""
    value = 0
    for n in range(10):
        byte = data[at + n]
        value |= (byte & 127) << 7 * n
        if byte < 128:
            return value, at + n + 1
    raise ValueError("an integer of more than ten bytes")


def _text(data: mmap.mmap, place: slice) -> str:
    """Return a text, or raise an error if it is too long."""
    if place.stop - place.start > MAX_HEADER:
        raise ValueError(f"a text of {place.stop - place.start} bytes")
    return data[place].decode()
