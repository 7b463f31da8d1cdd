"""Named arrays and metadata in one ``.safetensors`` file, written atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints.safetensors import CODES, FLOATS, write_safetensors
from numpy_xlstm.checkpoints.tensors import HEADER_KEY, Tensors, check_memory, open_tensors
from numpy_xlstm.disk import checked_path, replacing
from numpy_xlstm.documents import parse_json
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import Array

MAX_NAME = 1000
"""Largest number of characters in the name of an array."""


def write_arrays(
    path: str | Path,
    arrays: Mapping[str, Array],
    metadata: Mapping[str, Any],
    dtypes: Mapping[str, str] | None = None,
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
    dtypes : Mapping[str, str], optional
        Names of arrays of floats and the dtypes to which they are rounded: "float16", "bfloat16"
        (which needs the extra ``cli``), "float32" or "float64".

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
    _check_arrays(arrays, dtypes or {})
    names = {name: array.dtype.name for name, array in arrays.items()} | dict(dtypes or {})
    text = as_json(metadata)
    with replacing(path) as file:
        write_safetensors(file, arrays, names, {HEADER_KEY: text})


def read_arrays(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the arrays and the metadata that :func:`write_arrays` has written.

    Parameters
    ----------
    path : str or Path
        The file.
    """
    path = checked_path("path", path)
    tensors = open_tensors(path)
    check_memory(path.name, sum(array.nbytes for array in tensors.arrays.values()))
    metadata = own_metadata(path, tensors)
    return {name: stored.read() for name, stored in tensors.arrays.items()}, metadata


def own_metadata(path: Path, tensors: Tensors) -> dict[str, Any]:
    """Return the metadata of this package in a file, or raise :class:`CheckpointError`."""
    text = tensors.metadata.get(HEADER_KEY)
    got = "none" if text is None else text[:40]
    try:
        metadata = None if text is None else parse_json(text.encode("utf-8"))
    except ValueError as error:
        metadata, got = None, f"{text:.40} ({error})"
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path.name}: expected the metadata of a checkpoint; got {got}")
    return metadata


def _check_arrays(arrays: Mapping[str, Any], dtypes: Mapping[str, str]) -> None:
    """Raise :class:`CheckpointError` unless the arrays can be stored, rounded and loaded."""
    if not isinstance(arrays, Mapping) or not all(isinstance(name, str) for name in arrays):
        raise CheckpointError(f"arrays: expected a mapping of arrays; got {arrays!r:.80}")
    if unknown := [name for name in dtypes if name not in arrays]:
        raise CheckpointError(f"dtypes: expected names of arrays; got {unknown[0]!r:.80}")
    for name, array in arrays.items():
        if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name == "__metadata__":
            raise CheckpointError(
                f"arrays: expected names of 1 to {MAX_NAME} printable characters, other than "
                f"__metadata__; got {name!r:.80}"
            )
        stored = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
        if stored not in CODES:
            expected = "an array of booleans, integers or floats of at most 64 bits"
            raise CheckpointError(f"{name}: expected {expected}; got {stored}")
        wanted = dtypes.get(name, stored)
        if wanted != stored and not {wanted, stored} <= {*FLOATS}:
            expected = "an array of floats, to be rounded to " + " or ".join(FLOATS)
            raise CheckpointError(f"{name}: expected {expected}; got {stored} for {wanted!r}")


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
