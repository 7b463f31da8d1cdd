"""Named arrays and metadata in one ``.npz`` or ``.safetensors`` file, written atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from numpy_xlstm.checkpoints.npz import write_npz
from numpy_xlstm.checkpoints.safetensors import CODES, FLOATS, MAX_ARRAYS, write_safetensors
from numpy_xlstm.checkpoints.tensors import (
    HEADER_KEY,
    METADATA,
    Tensors,
    check_memory,
    check_total,
    open_tensors,
)
from numpy_xlstm.disk import replacing
from numpy_xlstm.documents import parse_json
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import Array, checked_path

MAX_NAME = 1000
"""Largest number of characters in the name of an array."""


def write_arrays(
    path: str | Path,
    arrays: Mapping[str, Array],
    metadata: Mapping[str, Any],
    dtypes: Mapping[str, str] | None = None,
) -> None:
    """Write arrays and metadata to a file, in the format of its suffix.

    The file is replaced atomically. At any time, even if the process ends, it has either the
    complete old or the complete new content.

    Parameters
    ----------
    path : str or Path
        ``*.npz`` or ``*.safetensors``.
    arrays : Mapping[str, np.ndarray]
        Names and arrays.
    metadata : Mapping[str, Any]
        JSON values: strings, finite numbers, booleans, None, and lists and dicts of these. NumPy
        numbers and arrays are written as numbers and lists.
    dtypes : Mapping[str, str], optional
        Names of arrays of floats and the dtypes to which they are rounded: "float16", "bfloat16"
        (which needs the extra ``cli``), "float32" or "float64".

    Raises
    ------
    CheckpointError
        If the suffix is unknown, a name is reserved, or the format does not support an array or the
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
    path = checked_path("path", path)
    write = WRITERS[_suffix(path)]
    _check_arrays(arrays)
    _check_dtypes(arrays, dtypes or {})
    names = {name: array.dtype.name for name, array in arrays.items()} | dict(dtypes or {})
    text = as_json(metadata)
    with replacing(path) as file:
        write(file, arrays, names, text)


def read_arrays(
    path: str | Path, *, max_bytes: int | None = None
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the arrays and the metadata that :func:`write_arrays` has written.

    Parameters
    ----------
    path : str or Path
        The file.
    max_bytes : int, optional
        Largest size of the arrays in bytes. The default is the size of the file plus 100 MiB, for
        compressed files such as those of ``np.savez_compressed``.

    Raises
    ------
    CheckpointError
        If the file is damaged or too large, has another format, or has no metadata of this package.
    OSError
        If there is no such file, or it cannot be read.
    """
    path = checked_path("path", path)
    _suffix(path)
    found = open_tensors(path)
    check_total(path.name, found.arrays, max_bytes)
    check_memory(path.name, sum(stored.nbytes for stored in found.arrays.values()))
    metadata = our_metadata(path, found)
    return {name: stored.read() for name, stored in found.arrays.items()}, metadata


def our_metadata(path: Path, found: Tensors) -> dict[str, Any]:
    """Return the metadata of this package in a file, or raise :class:`CheckpointError`."""
    text = found.metadata.get(HEADER_KEY)
    got = "none" if text is None else text[:40]
    try:
        metadata = None if text is None else parse_json(text.encode("utf-8"))
    except ValueError as error:
        metadata, got = None, f"{text:.40} ({error})"
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path.name}: expected the metadata of a checkpoint; got {got}")
    return metadata


def _check_arrays(arrays: Mapping[str, Any]) -> None:
    """Raise :class:`CheckpointError` unless the arrays can be stored and loaded."""
    if not isinstance(arrays, Mapping) or not all(isinstance(name, str) for name in arrays):
        raise CheckpointError(f"arrays: expected a mapping of arrays; got {arrays!r:.80}")
    if len(arrays) >= MAX_ARRAYS:
        raise CheckpointError(f"arrays: expected fewer than {MAX_ARRAYS:,}; got {len(arrays):,}")
    for name, array in arrays.items():
        if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name == METADATA:
            raise CheckpointError(
                f"arrays: expected names of 1 to {MAX_NAME} printable characters, other than "
                f"{METADATA}; got {name!r:.80}"
            )
        numbers = isinstance(array, np.ndarray) and (
            array.dtype.kind in "biufc" or array.dtype.name == "bfloat16"
        )
        if not numbers:
            got = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
            raise CheckpointError(f"{name}: expected an array of numbers; got {got}")


def _check_dtypes(arrays: Mapping[str, Array], dtypes: Mapping[str, str]) -> None:
    """Raise :class:`CheckpointError` unless only floats are rounded, and only to floats."""
    for name, dtype in dtypes.items():
        if name not in arrays:
            raise CheckpointError(f"dtypes: expected names of arrays; got {name!r:.80}")
        found = arrays[name].dtype
        if dtype == found.name:
            continue
        if dtype not in FLOATS or not (found.kind == "f" or found.name == "bfloat16"):
            expected = "an array of floats, to be rounded to " + " or ".join(FLOATS)
            raise CheckpointError(f"{name}: expected {expected}; got {found.name} for {dtype!r}")


def as_json(metadata: Mapping[str, Any]) -> str:
    """Return the metadata as JSON, or raise an error if the JSON could not be loaded."""
    if not isinstance(metadata, Mapping):
        raise CheckpointError(f"metadata: expected a mapping of values; got {metadata!r:.80}")
    try:
        text = json.dumps(dict(metadata), default=_plain, allow_nan=False)
        parse_json(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"metadata: expected JSON values; got others ({error})") from error
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__}: {value!r}")


def _write_npz(
    file: IO[bytes], arrays: Mapping[str, Array], dtypes: Mapping[str, str], text: str
) -> None:
    metadata = np.frombuffer(text.encode("utf-8"), np.uint8)
    write_npz(file, {METADATA: metadata, **arrays}, dtypes)


def _write_safetensors(
    file: IO[bytes], arrays: Mapping[str, Array], dtypes: Mapping[str, str], text: str
) -> None:
    for name, dtype in dtypes.items():
        if dtype not in CODES:
            raise CheckpointError(
                f"{name}: expected a dtype that .safetensors files support; got {dtype}, "
                "which an .npz file supports"
            )
    for _ in write_safetensors(file, arrays, dtypes, {HEADER_KEY: text}):
        pass


WRITERS = {".npz": _write_npz, ".safetensors": _write_safetensors}
"""Functions that write each format."""


def _suffix(path: Path) -> str:
    if path.suffix not in WRITERS:
        raise CheckpointError(
            f"path: expected a name that ends in {' or '.join(WRITERS)}; got {path.name}"
        )
    return path.suffix
