"""Reading of named arrays from untrusted ``.safetensors`` files, alone or in folders.

Names, dtypes, shapes and sizes are checked against the size of the file before any array is read or
memory is allocated for it. No code in a file is run.
"""

import math
import mmap
import os
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np
import numpy.typing as npt

from numpy_xlstm.checkpoints.safetensors import CHUNK, itemsize, numpy_dtype, parse_header
from numpy_xlstm.disk import open_regular
from numpy_xlstm.documents import MAX_BYTES, read_values
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.memory import memory_limit

HEADER_KEY = "numpy_xlstm"
"""Key of the metadata of this package in a header."""

PICKLED = (
    "A pickle can run any code, and is never opened. If you trust the file, convert it: "
    "safetensors.torch.save_file(torch.load(path, weights_only=True), 'model.safetensors')"
)

OTHERS = {
    "a pointer of Git LFS; fetch the file itself: git lfs pull": (b"version https://git-lfs",),
    "a web page, so the download has failed": (b"<!doctype", b"<html", b"<?xml", b"<head"),
    "a compressed archive; extract its files first, for example with: tar -xf": (
        *(b"\x1f\x8b", b"bzh", b"\xfd7zxz"),
    ),
    "a zip archive, such as PyTorch's own format or an .npz file. Arrays in an .npz file can be "
    f"passed to a model: model.load_state_dict(numpy.load(path)). {PICKLED}": (b"pk\x03\x04",),
    f"a pickle. {PICKLED}": tuple(bytes([0x80, version]) for version in range(1, 6)),
    "an ONNX graph, which is only written; load the checkpoint that it was made from": (b"\x08",),
}
"""Formats that are not supported, with advice, and their beginnings in lower case."""

CONFIGS = "config.json", "config.yaml", "config.yml"
TOKENIZER = "tokenizer.json"
"""File of the package ``tokenizers``, in any folder."""
INDEX = "model.safetensors.index.json"
WHOLE, BEST = "model.safetensors", "best.safetensors"
"""Files of a whole model: in the folder of a model, and in that of a run."""


class OpenFile:
    """An open file, which remains the same if another file replaces it at its path.

    It is closed when the last reference to it is deleted.
    """

    def __init__(self, path: Path) -> None:
        self.raw = open_regular("checkpoint", path)
        self.size = os.fstat(self.raw.fileno()).st_size
        self._lock = Lock()  # guards the file offset
        finalize(self, self.raw.close)

    @cached_property
    def map(self) -> mmap.mmap:
        """Memory map of the file, read on demand. Changes are private to the process."""
        return mmap.mmap(self.raw.fileno(), 0, access=mmap.ACCESS_COPY)

    def fill(self, array: Array, start: int) -> int:
        """Read an array (n,), and return the number of bytes that are missing in the file."""
        with self._lock:
            self.raw.seek(start)
            count: int = self.raw.readinto(array.view(np.uint8).data)  # type: ignore[attr-defined]
        return array.nbytes - count


class Stored(NamedTuple):
    """An array in a file, which is not read yet."""

    path: Path
    file: OpenFile
    name: str
    """Name in the file."""
    dtype: str
    """Name in NumPy or ml_dtypes, such as "bfloat16"."""
    shape: tuple[int, ...]
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
        return self.size * itemsize(self.dtype)

    def fits_map(self, dtype: np.dtype[Any]) -> bool:
        """Return whether a map of the file can be an array of this dtype."""
        same = numpy_dtype(self.dtype) == dtype
        return same and self.size > 0 and self.start % dtype.itemsize == 0

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
        """
        stored, crc = numpy_dtype(self.dtype), 0
        wanted = stored if dtype is None else np.dtype(dtype)
        if mapped and self.fits_map(wanted):
            flat = np.frombuffer(self.file.map, wanted, self.size, self.start)
            crc = 0 if self.crc is None else zlib.crc32(flat.view(np.uint8).data)
        else:
            flat = np.empty(self.size, wanted)
            for first in range(0, self.size, CHUNK):
                part = flat[first : first + CHUNK]
                numbers = part if wanted == stored else np.empty(part.size, stored)
                if missing := self.file.fill(numbers, self.start + first * stored.itemsize):
                    raise _damaged(self.path, f"{self.name}: {missing} bytes missing")
                crc = zlib.crc32(numbers.view(np.uint8).data, crc)
                if numbers is not part:
                    part[...] = numbers
        if self.crc not in (None, crc):
            raise _damaged(self.path, f"{self.name}: the checksum does not match its bytes")
        return flat.reshape(self.shape)


Tensors = tuple[dict[str, Stored], Mapping[str, str]]
"""Arrays of a file or of a set of files, and other texts in the header."""


def open_tensors(path: Path) -> Tensors:
    """Read the header of a file, or raise an error that names its other format, if known."""
    file = OpenFile(path)
    begin = file.raw.read(min(512, file.size))
    file.raw.seek(8)
    length = int.from_bytes(begin[:8], "little")
    try:
        if not 2 <= length <= min(file.size - 8, MAX_BYTES):
            raise ValueError(f"a header of {length} bytes in a file of {file.size}")
        entries, metadata = parse_header(file.raw.read(length), file.size - 8 - length)
    except ValueError as error:
        raise _damaged(path, str(error), begin) from None
    arrays = {
        name: Stored(path, file, name, dtype, shape, 8 + length + start, crc)
        for name, (dtype, shape, start, crc) in entries.items()
    }
    return arrays, metadata


def check_memory(name: str, needed: int, hint: str = "") -> None:
    """Refuse arrays that need more bytes than there are, before they are read."""
    if needed > (most := memory_limit()):
        expected = f"expected arrays of at most {most:,.0f} bytes (the available memory)"
        raise CheckpointError(f"{name}: {expected}; got {needed:,} bytes{hint}")


def read_stored(name: str, stored: Mapping[str, Stored]) -> dict[str, Array]:
    """Read all arrays, if they fit into the memory."""
    check_memory(name, sum(array.nbytes for array in stored.values()))
    return {name: array.read() for name, array in stored.items()}


def _damaged(path: Path, detail: str, begin: bytes = b"") -> CheckpointError:
    """Return the error for a file, which names its format if its beginning is a known one."""
    for name, starts in OTHERS.items():
        if begin[8:9] != b"{" and begin.lower().lstrip(b" \n").startswith(starts):
            return CheckpointError(f"{path.name}: expected a .safetensors file; got {name}")
    characters = begin.decode("utf-8", "ignore").encode()  # a character may be cut at the end
    if len(begin) > 8 and b"\0" not in begin and len(characters) > len(begin) - 4:
        advice = "a text, not a model; numpy-xlstm train learns from a text"
        return CheckpointError(f"{path.name}: expected a .safetensors file; got {advice}")
    return CheckpointError(
        f"{path.name}: expected an intact .safetensors file; got one that is damaged or of "
        f"another format ({detail})"
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON or YAML file."""
    values = read_values(path)
    if not isinstance(values, dict):
        raise CheckpointError(f"{path.name}: expected a mapping of values; got {str(values)[:80]}")
    return values


def find_tensors(folder: Path) -> Tensors:
    """Read the headers of the files of a folder: of a whole model, or of all its parts."""
    if (folder / WHOLE).exists():
        return open_tensors(folder / WHOLE)
    if (folder / INDEX).exists():
        return _merged(folder, _indexed(read_mapping(folder / INDEX))), {}
    files = sorted(path.name for path in folder.glob("model_*.safetensors"))
    if not files and (folder / BEST).exists():
        return open_tensors(folder / BEST)
    files = files or sorted(path.name for path in folder.glob("*.safetensors"))
    if len(files) > 1:
        return _merged(folder, files), {}
    if files:
        return open_tensors(folder / files[0])
    expected = f"{folder.resolve().name}: expected {WHOLE} or other .safetensors files"
    if any(p.suffix in (".bin", ".pt", ".pth", ".ckpt") for p in folder.iterdir()):
        raise CheckpointError(f"{expected}; got files of PyTorch's own format. {PICKLED}")
    raise CheckpointError(f"{expected}; got none")


def _indexed(index: Mapping[str, Any]) -> list[str]:
    """Return the names of the files in an index. The model tells which arrays they must have."""
    places = index.get("weight_map")
    texts = isinstance(places, dict) and all(isinstance(place, str) for place in places.values())
    if not texts or not places:
        raise CheckpointError(
            f"{INDEX}: expected weight_map, a mapping of file names; got {places!r:.80}"
        )
    for name, place in places.items():
        is_name = Path(place).name == place and "\\" not in place and place not in (".", "..")
        if not is_name or len(place.encode(errors="replace")) > 255:
            raise CheckpointError(
                f"{INDEX}: {name}: expected the name of a file in this folder; got {place!r:.80}"
            )
    return sorted(set(places.values()))


def _merged(folder: Path, files: list[str]) -> dict[str, Stored]:
    arrays: dict[str, Stored] = {}
    for file in files:
        if not (folder / file).exists():
            raise CheckpointError(f"{folder.name}: expected the file {file} too; got none")
        added, _ = open_tensors(folder / file)
        if twice := arrays.keys() & added.keys():
            name = min(twice)
            raise CheckpointError(
                f"{file}: expected each array once; got {name!r}, also in {arrays[name].path.name}"
            )
        arrays |= added
    return arrays
