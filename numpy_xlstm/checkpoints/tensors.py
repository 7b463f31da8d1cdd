"""Reading of named arrays from untrusted ``.safetensors`` files: the header, then single arrays.

Names, dtypes, shapes and sizes are checked against the size of the file before any array is read or
memory is allocated for it. No code in a file is run.
"""

import math
import mmap
import os
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from weakref import finalize

import numpy as np
import numpy.typing as npt

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
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import Array, check_whole
from numpy_xlstm.numerics.available import memory_limit

HEADER_KEY = "numpy_xlstm"
"""Key of the metadata of this package in a header."""

PICKLED = (
    "A pickle can run any code, and is never opened. If you trust the file, convert it: "
    "safetensors.torch.save_file(torch.load(path, weights_only=True), 'model.safetensors')"
)

OTHERS = (
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself: git lfs pull"),
    (b"\x1f\x8b", "a compressed archive; extract its files first, for example with: tar -xf"),
    (b"BZh", "a compressed archive; extract its files first, for example with: tar -xf"),
    (b"\xfd7zXZ", "a compressed archive; extract its files first, for example with: tar -xf"),
    *((start, "a web page, so the download has failed") for start in (b"<!doctype", b"<html")),
    *((start, "a web page, so the download has failed") for start in (b"<?xml", b"<head")),
)
"""Beginnings of other files, in lower case, and their names with advice."""


class OpenFile:
    """An open file, which remains the same if another file replaces it at its path.

    It is closed when the last reference to it is deleted.
    """

    def __init__(self, path: Path) -> None:
        self.raw = open_regular("checkpoint", path)
        self.size = os.fstat(self.raw.fileno()).st_size
        self.lock = Lock()
        """Guards the file offset."""
        finalize(self, self.raw.close)

    @cached_property
    def map(self) -> mmap.mmap:
        """Memory map of the file, read on demand. Changes are private to the process."""
        return mmap.mmap(self.raw.fileno(), 0, access=mmap.ACCESS_COPY)


class Stored(NamedTuple):
    """An array in a file, which is not read yet."""

    path: Path
    name: str
    """Name in the file."""
    dtype: str
    """Name in NumPy or ml_dtypes, such as "bfloat16"."""
    shape: tuple[int, ...]
    file: OpenFile
    start: int
    """Offset of its first byte."""
    crc: int | None = None
    """CRC-32, if it is known."""

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

    def read(self, dtype: npt.DTypeLike | None = None, *, mapped: bool = False) -> Array:
        """Read the array, and convert it to another dtype if one is given.

        Parameters
        ----------
        dtype : dtype, optional
            Dtype of the result; by default the stored one.
        mapped : bool
            Whether the result is a private view of the file, if it is stored in this dtype.

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
            if mapped and wanted == stored and self.size and self.start % wanted.itemsize == 0:
                flat = np.frombuffer(self.file.map, wanted, self.size, self.start)
                crc = 0 if self.crc is None else zlib.crc32(flat.view(np.uint8).data)
            else:
                flat = np.empty(self.size, wanted)
                with self.file.lock:
                    self.file.raw.seek(self.start)
                    crc = read_into(self.file.raw, flat, stored)
            if self.crc not in (None, crc):
                raise ValueError("the checksum does not match its bytes")
        except ValueError as error:
            raise _damaged(self.path, f"{self.name}: {error}") from None
        return flat.reshape(self.shape)

    def rows(self) -> Iterator[tuple[int, "Stored"]]:
        """Yield the array in parts of a few rows, each with the index of its first row."""
        if not self.shape or not self.size:
            yield 0, self
            return
        width = self.size // self.shape[0]
        step = max(1, CHUNK // width)
        for first in range(0, self.shape[0], step):
            shape = (min(step, self.shape[0] - first), *self.shape[1:])
            start = self.start + first * width * numpy_dtype(self.dtype).itemsize
            yield first, self._replace(shape=shape, start=start, crc=None)


class Tensors(NamedTuple):
    """Content of a file or of a set of files."""

    arrays: dict[str, Stored]
    metadata: dict[str, str] = {}  # noqa: RUF012 (never changed)
    """Other texts in the header."""

    @property
    def sealed(self) -> bool:
        """Whether the file has checksums of this package, of which the header's is verified."""
        return CHECKSUM in self.metadata

    @property
    def is_own(self) -> bool:
        """Whether it is a file with metadata of this package."""
        return HEADER_KEY in self.metadata


def open_tensors(path: Path) -> Tensors:
    """Read the header of a file.

    Raises
    ------
    CheckpointError
        If the file has another format, such as a pickle, a pointer of Git LFS or a web page, or its
        header contradicts itself, its checksum or the size of the file.
    OSError
        If there is no such file, or it cannot be read.
    """
    file = OpenFile(path)
    begin = file.raw.read(512)
    _refuse_others(path, begin)
    file.raw.seek(8)
    length = int.from_bytes(begin[:8], "little")
    try:
        if not 2 <= length <= min(file.size - 8, MAX_HEADER):
            raise ValueError(f"a header of {length} bytes in a file of {file.size}")
        entries, metadata = parse_header(file.raw.read(length), file.size - 8 - length)
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    arrays = {
        name: Stored(path, name, DTYPES[dtype], shape, file, 8 + length + start, crc)
        for name, (dtype, shape, start, crc) in entries.items()
    }
    return Tensors(arrays, metadata)


def check_total(name: str, arrays: Mapping[str, Stored], max_bytes: int | None) -> None:
    """Refuse arrays of more than ``max_bytes``, by default the memory, before they are read."""
    most = memory_limit() if max_bytes is None else check_whole("max_bytes", max_bytes)
    total = sum(stored.nbytes for stored in arrays.values())
    if total > most:
        limit = "the available memory" if max_bytes is None else "max_bytes"
        raise CheckpointError(
            f"{name}: expected arrays of at most {most:,.0f} bytes ({limit}); got {total:,} bytes"
        )


def _damaged(path: Path, detail: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name}: expected an intact .safetensors file; got one that is damaged or of "
        f"another format ({detail})"
    )


def _refuse_others(path: Path, begin: bytes) -> None:
    """Raise an error that names the format if it is a known one that is not supported."""
    if not begin:
        raise _damaged(path, "an empty file")
    other, text = None, begin.lstrip().lower()
    for start, name in OTHERS:
        if begin.startswith(start) or text.startswith(start):
            other = name
    if begin[:4] == b"PK\x03\x04":
        other = (
            "a zip archive; a checkpoint of an earlier version is converted with that version: "
            "write_arrays('a.safetensors', *read_arrays('a.npz')); the arrays of another .npz file "
            "can be passed to a model, for example by: model.load_state_dict(numpy.load(path))"
        )
        if b".pkl" in begin[30:60]:
            other = f"PyTorch's own format. {PICKLED}"
    elif begin[:1] == b"\x80" and begin[1:2] in b"\x01\x02\x03\x04\x05" and begin[2:8].strip(b"\0"):
        other = f"a pickle. {PICKLED}"
    elif begin[:1] == b"\x08" and begin[2:3] == b"\x12" and begin[8:9] != b"{":
        other = "an ONNX graph, which is only written; load the checkpoint that it was made from"
    if other:
        raise CheckpointError(f"{path.name}: expected a .safetensors file; got {other}")


def total_size(arrays: Mapping[str, Stored]) -> int:
    """Return the count of numbers in all arrays."""
    return sum(stored.size for stored in arrays.values())
