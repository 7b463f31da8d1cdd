"""The npz format: a zip archive of arrays, each with a CRC-32.

An archive written here contains an additional CRC-32, that of all other bytes, in the comment at
its end. Thus a change of any bit is detected.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from numpy_xlstm.checkpoints.safetensors import (
    CHECKSUM,
    MAX_ARRAYS,
    crc_of_range,
    narrowed,
    numpy_dtype,
)
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import Array

COMMENT = f"{CHECKSUM} ".encode()
"""Beginning of the comment of our archives, which is followed by the CRC-32 as eight digits."""

MAX_NPY_HEADER = 10_000
"""Largest size in bytes of the header with the dtype and shape of an array."""

MAX_DIRECTORY = 4_000_000
"""Largest size of the list of arrays at the end of an archive in bytes."""


class Member(NamedTuple):
    """Properties of an array in an archive, from the headers before it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int | None
    """Offset of its first byte; None unless it is uncompressed, C-order and little-endian."""
    crc: tuple[int, int]
    """CRC-32 of the header of the array, and CRC-32 of the header and the numbers together."""
    info: zipfile.ZipInfo


def write_npz(file: IO[bytes], arrays: Mapping[str, Array], dtypes: Mapping[str, str]) -> None:
    """Write arrays as ``np.savez`` does, rounding one at a time; bfloat16 takes two bytes each."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = COMMENT + b"0" * 8
        for name, array in arrays.items():
            dtype = dtypes.get(name, array.dtype.name)
            found = np.asarray(narrowed(name, array, numpy_dtype(dtype)), order="C")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                stored = found.view("V2") if dtype == "bfloat16" else found
                np.lib.format.write_array(member, stored, allow_pickle=False)
        infos = archive.infolist()
    crc = _frame(file, infos)
    file.seek(-8, io.SEEK_END)
    file.write(b"%08x" % crc)
    try:
        read_directory(file, file.tell())
    except (ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"arrays: expected arrays that an .npz file can contain; got others ({error})"
        ) from None


def read_directory(file: IO[bytes], size: int) -> tuple[list[Member], bool]:
    """Return the members of an archive, and whether it has our checksum; raise if damaged."""
    with zipfile.ZipFile(_Bounded(file)) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_ARRAYS:
            raise ValueError(f"expected at most {MAX_ARRAYS:,} arrays; got {len(infos):,}")
        members = [_member(file, archive, info, size) for info in infos]
        comment = archive.comment
    if not comment.startswith(COMMENT):
        return members, False
    if comment != COMMENT + b"%08x" % _frame(file, infos):
        raise ValueError("the checksum does not match its headers")
    return members, True


class _Bounded:
    """A file wrapper that limits the size of an archive's list of arrays."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY:
            raise ValueError(f"a list of arrays of {size:,} bytes")
        return self.file.read(size)


def _member(file: IO[bytes], archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> Member:
    name = info.filename.removesuffix(".npy")
    if name == info.filename:
        raise ValueError(f"an entry {name!r}, expected names that end in .npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name}: unsupported compression method {info.compress_type}")
    if info.header_offset < 0 or info.compress_size > size:
        raise ValueError(f"{name}: {info.compress_size} bytes in a file of {size}")
    with archive.open(info) as member:
        dtype, shape, plain = _array_header(name, member, info.file_size)
        length = member.tell()
    if not plain or info.compress_type != zipfile.ZIP_STORED:
        return Member(name, dtype, shape, None, (0, info.CRC), info)
    start = _start(file, info) + length
    if info.compress_size != info.file_size or start - length + info.file_size > size:
        raise ValueError(f"{name}: {info.file_size} bytes at {start} in a file of {size}")
    return Member(
        name, dtype, shape, start, (crc_of_range(file, start - length, start), info.CRC), info
    )


def _array_header(name: str, member: IO[bytes], size: int) -> tuple[str, tuple[int, ...], bool]:
    """Return dtype, shape, and whether the numbers are C-order and little-endian."""
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name}: array format {version}")
    read, digits = np.lib.format.read_array_header_1_0, 2
    if version == (2, 0):
        read, digits = np.lib.format.read_array_header_2_0, 4
    begin = member.read(digits)
    if (length := int.from_bytes(begin, "little")) > MAX_NPY_HEADER:
        raise ValueError(f"{name}: a header of {length:,} bytes")
    shape, fortran_order, dtype = read(io.BytesIO(begin + member.read(length)))
    is_bfloat16 = dtype == np.dtype("V2")  # NumPy has no bfloat16
    if dtype.kind not in "biufc" and not is_bfloat16:
        raise ValueError(f"{name}: expected numbers; got {dtype}")
    expected = math.prod(shape) * dtype.itemsize
    if size - member.tell() != expected or any(length < 0 for length in shape):
        raise ValueError(f"{name}: expected {expected} bytes; got {size - member.tell()}")
    plain = not fortran_order and (is_bfloat16 or dtype == numpy_dtype(dtype.name))
    return "bfloat16" if is_bfloat16 else dtype.name, tuple(map(int, shape)), plain


def read_packed(file: IO[bytes], info: zipfile.ZipInfo) -> Array:
    """Read an array that cannot be read directly."""
    file.seek(_start(file, info))
    with zipfile.ZipExtFile(file, "r", info) as member:
        array: Array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):
            raise ValueError("bytes after an array")
    native = array.dtype.newbyteorder("<")
    return np.asarray(array, native, order="C")


def _start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Return the offset of the first byte of an entry, after its zip header."""
    file.seek(info.header_offset)
    header = file.read(30)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return info.header_offset + 30 + lengths


def _frame(file: IO[bytes], infos: Iterable[zipfile.ZipInfo]) -> int:
    """Return the CRC-32 of all bytes outside arrays, with zeros in place of its own digits."""
    crc = position = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        start = _start(file, info)
        if start < position:
            raise ValueError(f"{info.filename}: it overlaps another entry")
        crc = crc_of_range(file, position, start, crc)
        position = start + info.compress_size
    end = file.seek(0, io.SEEK_END) - 8
    return zlib.crc32(b"0" * 8, crc_of_range(file, position, end, crc))
