"""Named arrays and metadata in one file, ``.npz`` or ``.safetensors``, written all or nothing."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from numpy_xlstm.errors import CheckpointError, MissingExtraError
from numpy_xlstm.numerics import Array, existing_file

METADATA = "__metadata__"
"""The name of the array that holds the metadata in an ``.npz``."""

HEADER_KEY = "numpy_xlstm"
"""The key of the metadata in the header of a ``.safetensors``."""

RESERVED = (METADATA, "file", "allow_pickle")
"""Names that no array can have: that of the metadata, and those of ``np.savez``'s own arguments."""

SAFETENSORS_DTYPES = tuple(
    f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)
)


def write_arrays(
    path: str | Path, arrays: Mapping[str, Array], metadata: Mapping[str, Any]
) -> None:
    """Write arrays and metadata to a file, in the format that its suffix says.

    The file is replaced at once: whatever happens meanwhile, even the end of the process, it holds
    either all of the old or all of the new content.

    Parameters
    ----------
    path : str or Path
        ``*.npz``, or ``*.safetensors``, which needs the ``checkpoints`` extra.
    arrays : Mapping[str, np.ndarray]
        The arrays by name.
    metadata : Mapping[str, Any]
        What JSON can hold: strings, finite numbers, booleans, None, lists and dicts of these.
        NumPy's numbers and arrays are written as Python's numbers and lists.

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
    write, _ = _format(path)
    for name, array in arrays.items():
        if not name or name in RESERVED:
            raise CheckpointError(
                f"arrays: expected names other than {', '.join(RESERVED)}; got {name!r}"
            )
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            got = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
            raise CheckpointError(f"{name}: expected an array of numbers; got {got}")
    try:
        text = json.dumps(dict(metadata), default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"metadata: expected what JSON can hold; got {error}") from error
    with _replacing(path) as file:
        write(file, arrays, text)


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
    _, read = _format(path)
    with existing_file("checkpoint", path).open("rb") as file:
        try:
            arrays, text = read(file)
        except MissingExtraError:
            raise
        except Exception as error:  # damage shows in many ways
            raise CheckpointError(
                f"{path.name}: expected a whole {path.suffix} file; got one that is damaged or of "
                f"another format ({str(error) or type(error).__name__})"
            ) from error
    try:
        metadata = json.loads(text or "null")
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        got = "none" if text is None else text[:40]
        raise CheckpointError(f"{path.name}: expected the metadata of a checkpoint; got {got}")
    return arrays, metadata


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__}: {value!r}")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
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


def _write_npz(file: IO[bytes], arrays: Mapping[str, Array], text: str) -> None:
    stored = {METADATA: np.frombuffer(text.encode("utf-8"), np.uint8)}
    np.savez(file, **stored, **arrays)  # type: ignore[arg-type]


def _read_npz(file: IO[bytes]) -> tuple[dict[str, Array], str | None]:
    with zipfile.ZipFile(file) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"wrong checksum of {damaged}")
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    metadata = arrays.pop(METADATA, None)
    return arrays, None if metadata is None else metadata.tobytes().decode("utf-8")


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingExtraError(
            ".safetensors files need the checkpoints extra: pip install 'numpy-xlstm[checkpoints]'"
        ) from error
    return safetensors


def _write_safetensors(file: IO[bytes], arrays: Mapping[str, Array], text: str) -> None:
    library = _safetensors()
    for name, array in arrays.items():
        if array.dtype.name not in (*SAFETENSORS_DTYPES, "bool"):
            raise CheckpointError(
                f"{name}: expected a dtype that .safetensors files have; got {array.dtype.name}, "
                "which an .npz file takes"
            )
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    file.write(library.numpy.save(plain, {HEADER_KEY: text}))


def _read_safetensors(file: IO[bytes]) -> tuple[dict[str, Array], str | None]:
    with _safetensors().safe_open(file.name, framework="numpy") as stored:
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        metadata = stored.metadata() or {}
    return arrays, metadata.get(HEADER_KEY)


_FORMATS: dict[str, tuple[Callable[..., None], Callable[..., Any]]] = {
    ".npz": (_write_npz, _read_npz),
    ".safetensors": (_write_safetensors, _read_safetensors),
}
"""How each format is written and read."""


def _format(path: Path) -> tuple[Callable[..., None], Callable[..., Any]]:
    if path.suffix not in _FORMATS:
        raise CheckpointError(
            f"path: expected a name that ends in {' or '.join(_FORMATS)}; got {path.name}"
        )
    return _FORMATS[path.suffix]
