"""Reading of named arrays from untrusted files: first the headers, then one array at a time.

Names, dtypes, shapes and sizes are checked against the size of the file before any array is read or
memory is allocated for it. No code in a file is run.
"""

import errno
import math
import mmap
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakSet, finalize
from zipfile import ZipInfo

import numpy as np
import numpy.typing as npt

from numpy_xlstm.checkpoints.npz import read_directory, read_packed
from numpy_xlstm.checkpoints.safetensors import (
    CHECKSUM,
    CHUNK,
    DTYPES,
    MAX_HEADER,
    numpy_dtype,
    parse_header,
    read_into,
)
from numpy_xlstm.disk import open_regular
from numpy_xlstm.errors import CheckpointError, MissingExtraError
from numpy_xlstm.numerics import Array, check_whole
from numpy_xlstm.numerics.available import memory_limit

METADATA = "__metadata__"
"""Name of the array with the metadata in an ``.npz`` of this package."""

HEADER_KEY = "numpy_xlstm"
"""Key of the metadata in the header of a ``.safetensors`` of this package."""

UNPACKED = 100 * 2**20
"""Default limit in bytes by which arrays may be larger than their files."""

SUFFIXES = ".safetensors", ".npz", ".onnx"

PICKLED = (
    "A pickle can run any code, and is never opened. If you trust the file, convert it: "
    "safetensors.torch.save_file(torch.load(path, weights_only=True), 'model.safetensors')"
)


class Opened:
    """An open file, which remains the same if another file replaces it at its path.

    It is closed when the last reference to it is deleted.
    """

    def __init__(self, path: Path) -> None:
        self.raw = open_regular("checkpoint", path)
        self.size = os.fstat(self.raw.fileno()).st_size
        self.lock = Lock()
        """Guards the file offset."""
        finalize(self, self.raw.close)


Maps = dict[Opened, mmap.mmap]
"""Memory maps of files, which are read on demand. Changes are private to the process."""

MAX_MAPS = 100
"""Largest number of maps in a process, because each map keeps its file open. Further files are read
instead."""

_mappings: WeakSet[mmap.mmap] = WeakSet()
"""Maps in use."""


class Stored(NamedTuple):
    """An array in a file, which is not read yet."""

    path: Path
    name: str
    """Name in the file."""
    dtype: str
    """Name in NumPy or ml_dtypes, such as "bfloat16"."""
    shape: tuple[int, ...]
    file: Opened
    start: int
    """Offset of its first byte."""
    crc: int | None = None
    """CRC-32, if it is known."""
    before: int = 0
    """CRC-32 of the bytes before the numbers that ``crc`` also covers, such as a header."""
    packed: ZipInfo | None = None
    """Entry of an ``.npz`` that is compressed or cannot be read directly for another reason."""

    @property
    def size(self) -> int:
        """Count of its numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.size * (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)

    def __str__(self) -> str:
        """Return the names of the file and of the array."""
        return f"{self.path.name}: {self.name}"

    def read(self, dtype: npt.DTypeLike | None = None, maps: Maps | None = None) -> Array:
        """Read the array, and convert it to another dtype if one is given.

        Parameters
        ----------
        dtype : dtype, optional
            Dtype of the result; by default the stored one.
        maps : dict, optional
            Memory maps of the files. If given, and if the array is stored in this dtype, the result
            is a private view of its file.

        Raises
        ------
        CheckpointError
            If the file is damaged.
        MissingExtraError
            If the array is bfloat16 and the package ``ml_dtypes`` is not installed.
        """
        stored = numpy_dtype(self.dtype)
        wanted = stored if dtype is None else np.dtype(dtype)
        try:
            if self.packed is not None:
                with self.file.lock:
                    return read_packed(self.file.raw, self.packed).view(stored).astype(wanted)
            in_place = wanted == stored and self.size and self.start % wanted.itemsize == 0
            if maps is not None and in_place and (self.file in maps or len(_mappings) < MAX_MAPS):
                return self._mapped(wanted, maps)
            array = np.empty(self.shape, wanted)
            with self.file.lock:
                self.file.raw.seek(self.start)
                crc = read_into(self.file.raw, array.reshape(-1), stored, self.before)
            self._check(crc)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # damage causes many kinds of errors
            raise _damaged(self.path, f"{self.name}: {error or type(error).__name__}") from None
        return array

    def _mapped(self, dtype: np.dtype[Any], maps: Maps) -> Array:
        if self.file not in maps:
            maps[self.file] = mmap.mmap(self.file.raw.fileno(), 0, access=mmap.ACCESS_COPY)
            _mappings.add(maps[self.file])
        flat = np.frombuffer(maps[self.file], dtype, self.size, self.start)
        if self.crc is not None:
            self._check(zlib.crc32(flat.view(np.uint8).data, self.before))
        return flat.reshape(self.shape)

    def _check(self, crc: int) -> None:
        if self.crc not in (None, crc):
            raise ValueError("the checksum does not match its bytes")

    def rows(self) -> Iterator[tuple[int, "Stored"]]:
        """Yield the array in parts of a few rows, each with the index of its first row."""
        if self.packed is not None or not self.shape or not self.size:
            yield 0, self
            return
        each = self.size // self.shape[0]
        step = max(1, CHUNK // each)
        for first in range(0, self.shape[0], step):
            shape = (min(step, self.shape[0] - first), *self.shape[1:])
            start = self.start + first * each * numpy_dtype(self.dtype).itemsize
            yield first, self._replace(shape=shape, start=start, crc=None)


class Tensors(NamedTuple):
    """Content of a file or of a set of files."""

    arrays: dict[str, Stored]
    metadata: dict[str, str] = {}  # noqa: RUF012 (never changed)
    """Other texts in the header."""
    sealed: bool = False
    """Whether the file has checksums of this package, those of the headers already verified."""
    suffix: str = ""
    """".npz", ".safetensors" or ".onnx", from the content of the file."""

    @property
    def is_own(self) -> bool:
        """Whether it is a file with metadata of this package."""
        return HEADER_KEY in self.metadata


def open_tensors(path: Path) -> Tensors:
    """Read the header of a file of any format. The format is detected by content.

    Raises
    ------
    CheckpointError
        If the file has another format, such as a pickle, a pointer of Git LFS or a web page, or its
        header contradicts itself, its checksum or the size of the file.
    OSError
        If there is no such file, or it cannot be read.
    """
    file = Opened(path)
    begin = file.raw.read(512)
    _refuse_others(path, begin)
    file.raw.seek(0)
    try:
        return _opener(begin)(path, file)
    except (CheckpointError, MissingExtraError):
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # from a seek before the first byte
            raise
        raise _damaged(path, "an offset before its beginning") from None
    except Exception as error:  # damage causes many kinds of errors
        raise _damaged(path, f"{error or type(error).__name__}") from None


def _opener(begin: bytes) -> Callable[[Path, Opened], Tensors]:
    """Return the function that opens files of the format with this beginning."""
    if begin[:4] == b"PK\x03\x04":
        return _open_npz
    if begin[:1] == b"\x08" and begin[2:3] == b"\x12" and begin[8:9] != b"{":
        from numpy_xlstm.checkpoints.onnx_file import open_onnx  # it needs the classes above

        return open_onnx
    return _open_safetensors


def check_total(name: str, arrays: Mapping[str, Stored], max_bytes: int | None) -> None:
    """Refuse arrays that would take too much memory, before they are read.

    ``max_bytes`` is the limit for all arrays in their stored dtypes. The default is the size of
    their files plus :data:`UNPACKED`.
    """
    if max_bytes is not None:
        check_whole("max_bytes", max_bytes)
    size = sum(file.size for file in {stored.file for stored in arrays.values()})
    most = size + UNPACKED if max_bytes is None else max_bytes
    total = sum(stored.nbytes for stored in arrays.values())
    if total > most:
        limit = "the default of max_bytes" if max_bytes is None else "max_bytes"
        raise CheckpointError(
            f"{name}: expected arrays of at most {most:,} bytes ({limit}); got {total:,} bytes "
            f"in files of {size:,} bytes"
        )


def check_memory(name: str, nbytes: int) -> None:
    """Refuse to read more bytes than there is memory, as the arrays of a sparse file may have."""
    if nbytes > (limit := memory_limit()):
        raise CheckpointError(
            f"{name}: expected arrays that fit into the {limit / 2**30:,.1f} GiB of available "
            f"memory; got {nbytes / 2**30:,.1f} GiB"
        )


def _damaged(path: Path, detail: str) -> CheckpointError:
    known = path.suffix if path.suffix in SUFFIXES else " or ".join(SUFFIXES)
    return CheckpointError(
        f"{path.name}: expected an intact {known} file; got one that is damaged or of "
        f"another format ({detail})"
    )


def _refuse_others(path: Path, begin: bytes) -> None:
    """Raise an error that names the format if it is a known one that is not supported."""
    text = begin.lstrip().lower()
    found = None
    if not begin:
        raise _damaged(path, "an empty file")
    if begin.startswith(b"version https://git-lfs"):
        found = "a pointer of Git LFS; fetch the file itself with: git lfs pull"
    elif begin.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        found = "a compressed archive; extract its files first, for example with: tar -xf"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        found = "a web page, so the download has failed"
    elif (
        begin.startswith(b"\x80")
        and begin[1:2] in b"\x01\x02\x03\x04\x05"
        and begin[2:8].strip(b"\x00")
    ):
        raise CheckpointError(f"{path.name}: expected a safetensors file; got a pickle. {PICKLED}")
    if begin[:4] == b"PK\x03\x04" and b".pkl" in begin[30:60]:
        raise CheckpointError(
            f"{path.name}: expected a safetensors file; got PyTorch's own format. {PICKLED}"
        )
    if found:
        raise CheckpointError(f"{path.name}: expected a .safetensors or .npz file; got {found}")


def _open_safetensors(path: Path, file: Opened) -> Tensors:
    length = int.from_bytes(file.raw.read(8), "little")
    if not 2 <= length <= min(file.size - 8, MAX_HEADER):
        raise ValueError(f"a header of {length} bytes in a file of {file.size}")
    entries, metadata = parse_header(file.raw.read(length), file.size - 8 - length)
    arrays = {
        name: Stored(path, name, DTYPES[dtype], shape, file, 8 + length + start, crc)
        for name, (dtype, shape, start, crc) in entries.items()
    }
    return Tensors(arrays, metadata, CHECKSUM in metadata, SUFFIXES[0])


def _open_npz(path: Path, file: Opened) -> Tensors:
    members, sealed = read_directory(file.raw, file.size)
    arrays: dict[str, Stored] = {}
    for name, dtype, shape, start, (before, crc), info in members:
        if name in arrays:
            raise ValueError(f"{name}: expected one array; got two")
        place = (0, None, 0, info) if start is None else (start, crc, before, None)
        arrays[name] = Stored(path, name, dtype, shape, file, *place)
    metadata = {}
    if METADATA in arrays:
        stored = arrays.pop(METADATA)
        if stored.dtype != "uint8" or stored.size > MAX_HEADER:
            raise ValueError(f"{METADATA}: expected UTF-8 bytes; got {stored.dtype} {stored.shape}")
        metadata[HEADER_KEY] = stored.read().tobytes().decode("utf-8")
    return Tensors(arrays, metadata, sealed, SUFFIXES[1])


def total_size(arrays: Mapping[str, Stored]) -> int:
    """Return the count of numbers in all arrays."""
    return sum(stored.size for stored in arrays.values())
