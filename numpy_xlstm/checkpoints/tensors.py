"""Named arrays in files of others: what there is, from the headers alone, then one at a time.

A file is looked at before it is believed: nothing is read, and no memory taken, before names,
dtypes, shapes and sizes have been held against the size of the file. No code in a file is run.
"""

import math
import mmap
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.checkpoints.safetensors import (
    CHUNK,
    DTYPES,
    MAX_HEADER,
    numpy_dtype,
    parse_header,
    read_into,
)
from numpy_xlstm.errors import CheckpointError, MissingExtraError
from numpy_xlstm.numerics import Array, existing_file

METADATA = "__metadata__"
"""The name of the array that holds our metadata in an ``.npz``."""

SUFFIXES = ".safetensors", ".npz"

PICKLED = (
    "a safetensors file (a pickle can run any code, and is never opened); where you trust it, "
    "write one: safetensors.torch.save_file(torch.load(path, weights_only=True), "
    "'model.safetensors')"
)


Maps = dict[Path, mmap.mmap]


def mapped(path: Path) -> mmap.mmap:
    """The bytes of a file, which are read when they are needed; changes stay in the memory."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


class Stored(NamedTuple):
    """An array in a file that has not been read yet."""

    path: Path
    name: str
    """Its name there."""
    dtype: str
    """As NumPy or ml_dtypes call it, such as "bfloat16"."""
    shape: tuple[int, ...]
    start: int | None
    """Its first byte; None in an ``.npz``."""

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

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
            if self.start is None:
                return _read_member(self.path, self.name, stored).astype(wanted, copy=False)
            if maps is not None and wanted == stored and self.start % wanted.itemsize == 0:
                if self.path not in maps:
                    maps[self.path] = mapped(self.path)
                flat = np.frombuffer(maps[self.path], wanted, self.size, self.start)
                return flat.reshape(self.shape)
            array = np.empty(self.shape, wanted)
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.start)
                read_into(file, array.reshape(-1), stored)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # damage shows in many ways
            raise _damaged(self.path, f"{self.name}: {error or type(error).__name__}") from error
        return array

    def rows(self) -> Iterator[tuple[int, "Stored"]]:
        """A few rows after the other, as arrays of their own, with the number of the first."""
        if self.start is None or not self.shape or not self.size:
            yield 0, self
            return
        each = self.size // self.shape[0]
        step = max(1, CHUNK // each)
        for first in range(0, self.shape[0], step):
            shape = (min(step, self.shape[0] - first), *self.shape[1:])
            start = self.start + first * each * numpy_dtype(self.dtype).itemsize
            yield first, self._replace(shape=shape, start=start)


class Tensors(NamedTuple):
    """What a file, or a set of files, holds."""

    arrays: dict[str, Stored]
    metadata: dict[str, str]
    """What the header says beside that."""


def open_tensors(path: Path) -> Tensors:
    """Return what is in a ``.safetensors`` or ``.npz`` file, from its header; the bytes decide.

    Raises
    ------
    CheckpointError
        If it is another kind of file, such as a pickle, a pointer of Git LFS or a web page, or its
        header contradicts itself or the size of the file.
    OSError
        If there is no such file, or it cannot be read.
    """
    check_regular(path)
    with path.open("rb") as file:
        begin = file.read(512)
        _refuse_others(path, begin)
        file.seek(0)
        try:
            if begin[:4] == b"PK\x03\x04":
                return _open_npz(path, file)
            return _open_safetensors(path, file)
        except (CheckpointError, MissingExtraError, OSError):
            raise
        except Exception as error:  # damage shows in many ways
            raise _damaged(path, f"{error or type(error).__name__}") from error


def check_regular(path: Path) -> None:
    """Raise an error unless this is a file as we know it: no folder, no device, no pipe."""
    if not stat.S_ISREG(existing_file("checkpoint", path).stat().st_mode):
        raise CheckpointError(f"{path.name}: expected a regular file; got a device or a pipe")


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
    if found:
        raise CheckpointError(f"{path.name}: expected a .safetensors or .npz file; got {found}")


def _open_safetensors(path: Path, file: IO[bytes]) -> Tensors:
    size = path.stat().st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, MAX_HEADER):
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    entries, metadata = parse_header(file.read(length), size - 8 - length)
    arrays = {
        name: Stored(path, name, DTYPES[dtype], shape, 8 + length + start)
        for name, (dtype, shape, start) in entries.items()
    }
    return Tensors(arrays, metadata)


def _open_npz(path: Path, file: IO[bytes]) -> Tensors:
    arrays: dict[str, Stored] = {}
    size = path.stat().st_size
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".pkl"):
                raise CheckpointError(f"{path.name}: expected {PICKLED}; got PyTorch's own format")
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in arrays:
                raise ValueError(f"an entry {info.filename!r}, no array or there twice")
            if info.compress_size > size:
                raise ValueError(f"{name}: {info.compress_size} bytes in a file of {size}")
            with archive.open(info) as member:
                dtype, shape = _member_header(name, member, info.file_size)
            arrays[name] = Stored(path, name, dtype, shape, None)
    metadata = {}
    if METADATA in arrays:
        stored = arrays.pop(METADATA)
        if stored.dtype != "uint8" or stored.size > MAX_HEADER:
            raise ValueError(f"{METADATA}: expected a text; got {stored.dtype} {stored.shape}")
        metadata["numpy_xlstm"] = stored.read().tobytes().decode("utf-8")
    return Tensors(arrays, metadata)


def _member_header(name: str, member: IO[bytes], size: int) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of an array in an ``.npz``, which must have the size that they ask for."""
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name}: array format {version}")
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    if dtype.hasobject or dtype.names is not None:
        raise ValueError(f"{name}: expected numbers; got {dtype}")
    expected = math.prod(shape) * dtype.itemsize
    if size - member.tell() != expected:
        raise ValueError(f"{name}: expected {expected} bytes; got {size - member.tell()}")
    known = "bfloat16" if dtype == np.dtype("V2") else dtype.name  # NumPy has no name for it
    return known, tuple(int(length) for length in shape)


def _read_member(path: Path, name: str, dtype: np.dtype[Any]) -> Array:
    with np.load(path, allow_pickle=False) as stored:
        array: Array = np.asarray(stored[name], order="C")
    return array.view(dtype) if array.dtype.kind == "V" else array


def total_size(arrays: Mapping[str, Stored]) -> int:
    """How many numbers there are in all of them."""
    return sum(stored.size for stored in arrays.values())
