"""Writing of arrays for other packages: a ``.safetensors`` file, or a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints.description import Saving
from numpy_xlstm.checkpoints.folders import TOKENIZER, WHOLE
from numpy_xlstm.checkpoints.safetensors import FLOATS, numpy_dtype, write_safetensors
from numpy_xlstm.checkpoints.tokenizer_file import as_library_json
from numpy_xlstm.disk import new_folder, replacing, write_text
from numpy_xlstm.documents import as_text
from numpy_xlstm.numerics import Array, check_choice, check_parameter, is_narrow

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
    path: Path, config: str, values: Mapping[str, Any], arrays: Mapping[str, Array], options: Saving
) -> None:
    """Write a new folder: a configuration, arrays, and the tokenizer if there is one.

    ``config`` is the name of the configuration, which ends in ``.json`` or ``.yaml``.
    """
    text = as_text(Path(config), values)
    tokenizer = None if options.tokenizer is None else as_library_json(options.tokenizer)
    with new_folder(path) as partial:
        if tokenizer is not None:
            write_text(partial / TOKENIZER, tokenizer)
            write_text(partial / "tokenizer_config.json", AS_IT_IS)
        write_text(partial / config, text)
        write_file(partial / WHOLE, arrays, stored_dtypes(arrays, options.dtype))


def write_file(
    path: Path,
    arrays: Mapping[str, Array],
    dtypes: Mapping[str, str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a ``.safetensors`` file as PyTorch reads it."""
    with replacing(path) as file:
        write_safetensors(file, arrays, dtypes, {"format": "pt", **(metadata or {})})
