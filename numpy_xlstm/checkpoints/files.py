"""Named arrays and metadata in one ``.safetensors`` file, written atomically."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints.safetensors import CODES, write_safetensors
from numpy_xlstm.checkpoints.tensors import HEADER_KEY, open_tensors, read_stored
from numpy_xlstm.disk import checked_path, replacing
from numpy_xlstm.documents import parse_json
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import Array

MAX_NAME = 1000
"""Largest number of characters in the name of an array."""


def write_arrays(
    path: str | Path, arrays: Mapping[str, Array], metadata: Mapping[str, Any]
) -> None:
    """Write arrays and metadata to a ``.safetensors`` file.

    The file is replaced atomically. At any time, even if the process ends, it has either the
    complete old or the complete new content.

    Parameters
    ----------
    path : str or Path
        ``*.safetensors``.
    arrays : Mapping[str, np.ndarray]
        Names and arrays of booleans, integers or floats.
    metadata : Mapping[str, Any]
        JSON values: strings, finite numbers, booleans, None, and lists and dicts of these. NumPy
        numbers and arrays are written as numbers and lists.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_arrays(f"{folder}/a.safetensors", {"x": np.arange(3)}, {"step": 7})
    ...     read_arrays(f"{folder}/a.safetensors")
    ({'x': array([0, 1, 2])}, {'step': 7})
    """
    path = checked_path("path", path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"path: expected a name that ends in .safetensors; got {path.name}")
    write_file(path, arrays, dtypes_of(arrays), {HEADER_KEY: as_json(metadata)})


def write_file(
    path: Path, arrays: Mapping[str, Array], dtypes: Mapping[str, str], metadata: Mapping[str, str]
) -> None:
    """Write a file atomically, with each array rounded to its dtype."""
    with replacing(path) as file:
        write_safetensors(file, arrays, dtypes, metadata)


def read_arrays(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the arrays and the metadata that :func:`write_arrays` has written.

    Parameters
    ----------
    path : str or Path
        The file.
    """
    path = checked_path("path", path)
    stored, texts = open_tensors(path)
    metadata = own_metadata(path, texts)
    return read_stored(path.name, stored), metadata


def own_metadata(path: Path, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata of this package in a file, or raise :class:`CheckpointError`."""
    text = texts.get(HEADER_KEY, "none")
    with suppress(ValueError):
        metadata = parse_json(text.encode("utf-8"))
        if isinstance(metadata, dict):
            return metadata
    raise CheckpointError(f"{path.name}: expected the metadata of a checkpoint; got {text:.40}")


def dtypes_of(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the dtypes, or raise :class:`CheckpointError` for other arrays."""
    if not isinstance(arrays, Mapping) or not all(isinstance(name, str) for name in arrays):
        raise CheckpointError(f"arrays: expected a mapping of arrays; got {arrays!r:.80}")
    dtypes = {}
    for name, array in arrays.items():
        if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name == "__metadata__":
            raise CheckpointError(
                f"arrays: expected names of 1 to {MAX_NAME} printable characters, other than "
                f"__metadata__; got {name!r:.80}"
            )
        dtypes[name] = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
        if dtypes[name] not in CODES:
            expected = "an array of booleans, integers or floats of at most 64 bits"
            raise CheckpointError(f"{name}: expected {expected}; got {dtypes[name]}")
    return dtypes


def as_json(metadata: Mapping[str, Any]) -> str:
    """Return the metadata as JSON, or raise an error if the JSON could not be loaded."""
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
