"""Writing of arrays for other packages: one ``.safetensors`` file, or a folder of several."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.description import Saving
from numpy_xlstm.checkpoints.folders import INDEX, TOKENIZER, WHOLE
from numpy_xlstm.checkpoints.loading import OnProgress
from numpy_xlstm.checkpoints.safetensors import FLOATS, numpy_dtype, write_safetensors
from numpy_xlstm.disk import new_folder, replacing, write_text
from numpy_xlstm.documents import as_text
from numpy_xlstm.generation import HuggingFaceTokenizer
from numpy_xlstm.numerics import Array, check_array, check_choice

NUMBERED = "model-{0:05d}-of-{1:05d}.safetensors"
"""Names of several files, numbered from 1."""


def stored_dtype(model: Any, dtype: str | None) -> str:
    """Return the dtype of the file; refuse an unknown dtype and non-finite parameters."""
    for name, array in model.params.items():
        check_array(name, array, array.shape)
    stored = check_choice("dtype", dtype or model.dtype.name, FLOATS)
    numpy_dtype(stored)  # raise the error of a missing package before a file is made
    return stored


def write_folder(
    path: Path,
    config: str,
    values: Mapping[str, Any],
    arrays: Mapping[str, Array],
    dtype: str,
    options: Saving,
    names: str = NUMBERED,
) -> None:
    """Write a new folder: a configuration, arrays, and the tokenizer if there is one.

    ``config`` is the name of the configuration, which ends in ``.json`` or ``.yaml``, and ``dtype``
    that of the file, from :func:`stored_dtype`. ``names`` formats the names of several files from
    the number from 1, the count, and the number from 0. There is an index if they are
    :data:`NUMBERED`.
    """
    text = as_text(Path(config), values)
    width = numpy_dtype(dtype).itemsize
    shards = _shards(arrays, width, options.limit)
    files = [names.format(n + 1, len(shards), n) for n in range(len(shards))]
    files = files if len(shards) > 1 else [WHOLE]
    with new_folder(path) as partial:
        if isinstance(options.tokenizer, HuggingFaceTokenizer):
            write_text(partial / TOKENIZER, options.tokenizer.json)
        write_text(partial / config, text)
        parts = {partial / file: shard for file, shard in zip(files, shards, strict=True)}
        write_parts(parts, dtype, options.progress)
        if names == NUMBERED and len(shards) > 1:
            places = {n: file for file, shard in zip(files, shards, strict=True) for n in shard}
            content = {"metadata": {"total_size": _size(shards, width)}, "weight_map": places}
            write_text(partial / INDEX, as_text(Path(INDEX), content))


def write_parts(
    parts: Mapping[Path, Mapping[str, Array]],
    dtype: str,
    progress: OnProgress | None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``.safetensors`` files, and call ``progress`` after each array."""
    done, total = 0, _size(parts.values(), numpy_dtype(dtype).itemsize)
    for path, arrays in parts.items():
        header, dtypes = {"format": "pt", **(metadata or {})}, dict.fromkeys(arrays, dtype)
        with replacing(path) as file:
            for nbytes in write_safetensors(file, arrays, dtypes, header):
                done += nbytes
                if progress is not None:
                    progress(done, total)


def _size(parts: Iterable[Mapping[str, Array]], width: int) -> int:
    """Return the size of all arrays in bytes."""
    return sum(array.size * width for arrays in parts for array in arrays.values())


def _shards(arrays: Mapping[str, Array], width: int, limit: float) -> list[dict[str, Array]]:
    """Split the arrays, in order, into groups of at most ``limit`` bytes if possible."""
    shards: list[dict[str, Array]] = [{}]
    held = 0
    for name, array in arrays.items():
        if shards[-1] and held + array.size * width > limit:
            shards.append({})
            held = 0
        shards[-1][name] = array
        held += array.size * width
    return shards
