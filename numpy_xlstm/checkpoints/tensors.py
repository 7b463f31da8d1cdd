"""Named arrays in files of others: what there is, from the headers alone, then one at a time.

A file is looked at before it is believed: nothing is read, and no memory taken, before names,
dtypes, shapes and sizes have been held against the size of the file. No code in a file is run.
"""

import errno
import math
import mmap
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from weakref import finalize
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

METADATA = "__metadata__"
"""The name of the array that holds our metadata in an ``.npz``."""

HEADER_KEY = "numpy_xlstm"
"""The key of our metadata in the header of a ``.safetensors``."""

UNPACKED = 100 * 2**20
"""How many bytes more than their files arrays may take, if nothing else is said."""

SUFFIXES = ".safetensors", ".npz"

PICKLED = (
    "a safetensors file (a pickle can run any code, and is never opened); where you trust it, "
    "write one: safetensors.torch.save_file(torch.load(path, weights_only=True), "
    "'model.safetensors')"
)


class Opened:
    """A file that has been opened: what takes its place at its path meanwhile does not matter.

    It is closed when nothing refers to it any more.
    """

    def __init__(self, path: Path) -> None:
        self.raw = open_regular("checkpoint", path)
        self.size = os.fstat(self.raw.fileno()).st_size
        self.lock = Lock()
        """Who reads in it, holds this, as there is one position for all."""
        finalize(self, self.raw.close)


Maps = dict[Opened, mmap.mmap]
"""The bytes of files, which are read when they are needed; changes stay in the memory."""


class Stored(NamedTuple):
    """An array in a file that has not been read yet."""

    path: Path
    name: str
    """Its name there."""
    dtype: str
    """As NumPy or ml_dtypes call it, such as "bfloat16"."""
    shape: tuple[int, ...]
    file: Opened
    start: int
    """Its first byte."""
    crc: int | None = None
    """Its CRC-32, if that is known."""
    before: int = 0
    """CRC-32 of what is counted before its own bytes."""
    packed: ZipInfo | None = None
    """What an ``.npz`` says of it, if it cannot be read from its first byte on."""

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes that takes."""
        return self.size * (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.path.name}: {self.name}"

    def read(self, dtype: npt.DTypeLike | None = None, maps: Maps | None = None) -> Array:
        """Read it into an array of its own, in another dtype if one is asked for.

        Parameters
        ----------
        dtype : dtype, optional
            That of the array; if omitted, as it is stored.
        maps : dict, optional
            The files that are mapped: if it is stored in this dtype, it stays there, and what is
            written to the array is seen by nobody else.

        Raises
        ------
        CheckpointError
            If the file is damaged.
        MissingExtraError
            If it is of bfloat16, and the package ``ml_dtypes`` is not installed.
        """
        stored = numpy_dtype(self.dtype)
        wanted = stored if dtype is None else np.dtype(dtype)
        try:
            if self.packed is not None:
                with self.file.lock:
                    return read_packed(self.file.raw, self.packed).view(stored).astype(wanted)
            in_place = wanted == stored and self.size and self.start % wanted.itemsize == 0
            if maps is not None and in_place:
                return self._mapped(wanted, maps)
            array = np.empty(self.shape, wanted)
            with self.file.lock:
                self.file.raw.seek(self.start)
                crc = read_into(self.file.raw, array.reshape(-1), stored, self.before)
            self._check(crc)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # damage shows in many ways
            raise _damaged(self.path, f"{self.name}: {error or type(error).__name__}") from None
        return array

    def _mapped(self, dtype: np.dtype[Any], maps: Maps) -> Array:
        if self.file not in maps:
            maps[self.file] = mmap.mmap(self.file.raw.fileno(), 0, access=mmap.ACCESS_COPY)
        flat = np.frombuffer(maps[self.file], dtype, self.size, self.start)
        if self.crc is not None:
            self._check(zlib.crc32(flat.view(np.uint8).data, self.before))
        return flat.reshape(self.shape)

    def _check(self, crc: int) -> None:
        if self.crc not in (None, crc):
            raise ValueError("another checksum than that of its bytes")

    def rows(self) -> Iterator[tuple[int, "Stored"]]:
        """A few rows after the other, as arrays of their own, with the number of the first."""
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
    """What a file, or a set of files, holds."""

    arrays: dict[str, Stored]
    metadata: dict[str, str]
    """What the header says beside that."""
    sealed: bool
    """Whether it has our checksums: those of the header, or of all headers, have been compared."""


def open_tensors(path: Path) -> Tensors:
    """Return what is in a ``.safetensors`` or ``.npz`` file, from its header; the bytes decide.

    Raises
    ------
    CheckpointError
        If it is another kind of file, such as a pickle, a pointer of Git LFS or a web page, or its
        header contradicts itself, its checksum or the size of the file.
    OSError
        If there is no such file, or it cannot be read.
    """
    file = Opened(path)
    begin = file.raw.read(512)
    _refuse_others(path, begin)
    file.raw.seek(0)
    try:
        return (_open_npz if begin[:4] == b"PK\x03\x04" else _open_safetensors)(path, file)
    except (CheckpointError, MissingExtraError):
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # that is of a place before the first byte
            raise
        raise _damaged(path, "a place before its beginning") from None
    except Exception as error:  # damage shows in many ways
        raise _damaged(path, f"{error or type(error).__name__}") from None


def check_total(name: str, arrays: Mapping[str, Stored], max_bytes: int | None) -> None:
    """Refuse, before it is read, what takes more memory than it may.

    ``max_bytes`` are what all arrays may take as they are stored; if omitted, as many as their
    files have, and :data:`UNPACKED` more where they are packed.
    """
    if max_bytes is not None:
        check_whole("max_bytes", max_bytes)
    size = sum(file.size for file in {stored.file for stored in arrays.values()})
    most = size + UNPACKED if max_bytes is None else max_bytes
    total = sum(stored.nbytes for stored in arrays.values())
    if total > most:
        told = " by default" if max_bytes is None else ""
        raise CheckpointError(
            f"{name}: expected arrays of at most {most:,} bytes, max_bytes{told}; got {total:,} "
            f"in {size:,} bytes"
        )


def _damaged(path: Path, detail: str) -> CheckpointError:
    known = path.suffix if path.suffix in SUFFIXES else " or ".join(SUFFIXES)
    return CheckpointError(
        f"{path.name}: expected a whole {known} file; got one that is damaged or of "
        f"another format ({detail})"
    )


def _refuse_others(path: Path, begin: bytes) -> None:
    """Say what a file is that is no file of arrays."""
    text = begin.lstrip().lower()
    found = None
    if not begin:
        raise _damaged(path, "an empty file")
    if begin.startswith(b"version https://git-lfs"):
        found = "a pointer of Git LFS; fetch the file itself with: git lfs pull"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        found = "a web page, so the download has failed"
    elif (
        begin.startswith(b"\x80")
        and begin[1:2] in b"\x01\x02\x03\x04\x05"
        and begin[2:8].strip(b"\x00")
    ):
        raise CheckpointError(f"{path.name}: expected {PICKLED}; got a pickle")
    if begin[:4] == b"PK\x03\x04" and b".pkl" in begin[30:60]:
        raise CheckpointError(f"{path.name}: expected {PICKLED}; got PyTorch's own format")
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
    return Tensors(arrays, metadata, CHECKSUM in metadata)


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
            raise ValueError(f"{METADATA}: expected a text; got {stored.dtype} {stored.shape}")
        metadata[HEADER_KEY] = stored.read().tobytes().decode("utf-8")
    return Tensors(arrays, metadata, sealed)


def total_size(arrays: Mapping[str, Stored]) -> int:
    """How many numbers there are in all of them."""
    return sum(stored.size for stored in arrays.values())
