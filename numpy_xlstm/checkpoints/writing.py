"""Writing of arrays for other packages: one ``.safetensors`` file, or a folder of several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints.description import Saving
from numpy_xlstm.checkpoints.folders import INDEX, TOKENIZER, WHOLE
from numpy_xlstm.checkpoints.loading import OnProgress
from numpy_xlstm.checkpoints.safetensors import FLOATS, numpy_dtype, write_safetensors
from numpy_xlstm.disk import new_folder, replacing, write_text
from numpy_xlstm.documents import as_text
from numpy_xlstm.generation.tokenizers import as_library_json
from numpy_xlstm.numerics import Array, check_choice
from numpy_xlstm.numerics.narrow import check_parameter, is_narrow

NUMBERED = "model-{0:05d}-of-{1:05d}.safetensors"
"""Names of several files, numbered from 1."""

AS_IT_IS = '{"tokenizer_class": "PreTrainedTokenizerFast"}'
"""Configuration with which transformers does not replace parts of a ``tokenizer.json``."""


def stored_dtype(model: Any, dtype: str | None) -> str:
    """Return the dtype of the file; refuse an unknown dtype and non-finite parameters.

    If none is given, it is that of the first matrix with 16 bits, or of the model.
    """
    for name, array in model.params.items():
        check_parameter(name, array, array)
    narrow = [array.dtype.name for array in model.params.values() if is_narrow(array)]
    kept = [*narrow, model.dtype.name][0]
    stored = check_choice("dtype", kept if dtype is None else dtype, FLOATS)
    numpy_dtype(stored)  # raise the error of a missing package before a file is made
    return stored


def stored_dtypes(arrays: Mapping[str, Array], dtype: str | None) -> dict[str, str]:
    """Return the dtype in which each array is stored: the given one, or its own.

    If matrices have one dtype of 16 bits, other arrays that it represents exactly get it too, as in
    the file that they come from.
    """
    if dtype is not None:
        return dict.fromkeys(arrays, dtype)
    dtypes = {name: array.dtype.name for name, array in arrays.items()}
    narrow = {array.dtype for array in arrays.values() if is_narrow(array)}
    if len(narrow) == 1:
        (common,) = narrow
        for name, array in arrays.items():
            with np.errstate(over="ignore"):
                if (array.astype(common) == array).all():
                    dtypes[name] = common.name
    return dtypes


def write_folder(
    path: Path,
    config: str,
    values: Mapping[str, Any],
    arrays: Mapping[str, Array],
    options: Saving,
    names: str = NUMBERED,
) -> None:
    """Write a new folder: a configuration, arrays, and the tokenizer if there is one.

    ``config`` is the name of the configuration, which ends in ``.json`` or ``.yaml``. ``names``
    formats the names of several files from the number from 1, the count, and the number from 0.
    There is an index if they are :data:`NUMBERED`.
    """
    text, dtypes = as_text(Path(config), values), stored_dtypes(arrays, options.dtype)
    tokenizer = None if options.tokenizer is None else as_library_json(options.tokenizer)
    sizes = {name: a.size * numpy_dtype(dtypes[name]).itemsize for name, a in arrays.items()}
    shards = _shards(arrays, sizes, options.limit)
    files = [names.format(n + 1, len(shards), n) for n in range(len(shards))]
    files = files if len(shards) > 1 else [WHOLE]
    with new_folder(path) as partial:
        if tokenizer is not None:
            write_text(partial / TOKENIZER, tokenizer)
            write_text(partial / "tokenizer_config.json", AS_IT_IS)
        write_text(partial / config, text)
        parts = {partial / file: shard for file, shard in zip(files, shards, strict=True)}
        write_parts(parts, dtypes, options.progress)
        if names == NUMBERED and len(shards) > 1:
            places = {n: file for file, shard in zip(files, shards, strict=True) for n in shard}
            content = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": places}
            write_text(partial / INDEX, as_text(Path(INDEX), content))


def write_parts(
    parts: Mapping[Path, Mapping[str, Array]],
    dtypes: Mapping[str, str],
    progress: OnProgress | None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``.safetensors`` files, and call ``progress`` after each array."""
    arrays = {name: array for part in parts.values() for name, array in part.items()}
    total = sum(a.size * numpy_dtype(dtypes[name]).itemsize for name, a in arrays.items())
    done, header = 0, {"format": "pt", **(metadata or {})}
    for path, part in parts.items():
        with replacing(path) as file:
            for nbytes in write_safetensors(file, part, dtypes, header):
                done += nbytes
                if progress is not None:
                    progress(done, total)


def _shards(
    arrays: Mapping[str, Array], sizes: Mapping[str, int], limit: float
) -> list[dict[str, Array]]:
    shards: list[dict[str, Array]] = [{}]
    held = 0
    for name, array in arrays.items():
        if shards[-1] and held + sizes[name] > limit:
            shards.append({})
            held = 0
        shards[-1][name] = array
        held += sizes[name]
    return shards
