"""Named arrays and metadata in one file, ``.npz`` or ``.safetensors``, written all or nothing."""

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from numpy_xlstm.checkpoints.safetensors import CODES, narrowed, numpy_dtype, write_safetensors
from numpy_xlstm.checkpoints.tensors import METADATA, Tensors, open_tensors
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import Array

HEADER_KEY = "numpy_xlstm"
"""The key of the metadata in the header of a ``.safetensors``."""


def write_arrays(
    path: str | Path,
    arrays: Mapping[str, Array],
    metadata: Mapping[str, Any],
    dtypes: Mapping[str, str] | None = None,
) -> None:
    """Write arrays and metadata to a file, in the format that its suffix says.

    The file is replaced at once: whatever happens meanwhile, even the end of the process, it holds
    either all of the old or all of the new content.

    Parameters
    ----------
    path : str or Path
        ``*.npz`` or ``*.safetensors``.
    arrays : Mapping[str, np.ndarray]
        The arrays by name.
    metadata : Mapping[str, Any]
        What JSON can hold: strings, finite numbers, booleans, None, lists and dicts of these.
        NumPy's numbers and arrays are written as Python's numbers and lists.
    dtypes : Mapping[str, str], optional
        What to round arrays to, by name, such as "bfloat16", which needs the ``checkpoints``
        extra.

    Raises
    ------
    CheckpointError
        If the suffix is another, a name is reserved, or the format cannot hold an array or the
        metadata.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_arrays(f"{folder}/a.npz", {"x": np.arange(3)}, {"step": 7})
    ...     read_arrays(f"{folder}/a.npz")
    ({'x': array([0, 1, 2])}, {'step': 7})
    """
    path = Path(path)
    write = WRITERS[_suffix(path)]
    for name, array in arrays.items():
        if name in ("", METADATA):
            raise CheckpointError(f"arrays: expected names other than {METADATA}; got {name!r}")
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            got = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
            raise CheckpointError(f"{name}: expected an array of numbers; got {got}")
    names = {name: array.dtype.name for name, array in arrays.items()} | dict(dtypes or {})
    try:
        text = json.dumps(dict(metadata), default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"metadata: expected what JSON can hold; got {error}") from error
    with replacing(path) as file:
        write(file, arrays, names, text)


def read_arrays(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the arrays and the metadata that :func:`write_arrays` has written.

    Raises
    ------
    CheckpointError
        If the file is damaged, of another format, or has none of our metadata.
    OSError
        If there is no such file, or it cannot be read.
    """
    path = Path(path)
    _suffix(path)
    found = open_tensors(path)
    metadata = our_metadata(path, found)
    return {name: stored.read() for name, stored in found.arrays.items()}, metadata


def our_metadata(path: Path, found: Tensors) -> dict[str, Any]:
    """Return our metadata of a file, or raise :class:`CheckpointError` if it has none."""
    text = found.metadata.get(HEADER_KEY)
    try:
        metadata = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        got = "none" if text is None else text[:40]
        raise CheckpointError(f"{path.name}: expected the metadata of a checkpoint; got {got}")
    return metadata


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__}: {value!r}")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write to that takes the place of ``path`` once it is complete and on disk."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # have the new name on disk, too
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_npz(
    file: IO[bytes], arrays: Mapping[str, Array], dtypes: Mapping[str, str], text: str
) -> None:
    """As ``np.savez``, but with one array after the other rounded; bfloat16 as two bytes each."""
    metadata = np.frombuffer(text.encode("utf-8"), np.uint8)
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in {METADATA: metadata, **arrays}.items():
            dtype = dtypes.get(name, array.dtype.name)
            found = narrowed(name, array, numpy_dtype(dtype))
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                stored = found.view("V2") if dtype == "bfloat16" else found
                np.lib.format.write_array(member, stored, allow_pickle=False)


def _write_safetensors(
    file: IO[bytes], arrays: Mapping[str, Array], dtypes: Mapping[str, str], text: str
) -> None:
    for name, dtype in dtypes.items():
        if dtype not in CODES:
            raise CheckpointError(
                f"{name}: expected a dtype that .safetensors files have; got {dtype}, "
                "which an .npz file takes"
            )
    for _ in write_safetensors(file, arrays, dtypes, {HEADER_KEY: text}):
        pass


WRITERS = {".npz": _write_npz, ".safetensors": _write_safetensors}
"""How each format is written."""


def _suffix(path: Path) -> str:
    if path.suffix not in WRITERS:
        raise CheckpointError(
            f"path: expected a name that ends in {' or '.join(WRITERS)}; got {path.name}"
        )
    return path.suffix
