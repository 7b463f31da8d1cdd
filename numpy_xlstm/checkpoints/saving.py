"""Saving of a model as a checkpoint of this or of an official package: ``save_pretrained``."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints.folders import IN_FOLDERS, INDEX, TOKENIZER, WHOLE, yaml_package
from numpy_xlstm.checkpoints.loading import OnProgress
from numpy_xlstm.checkpoints.model import save_checkpoint
from numpy_xlstm.checkpoints.official_configs import (
    OUTPUT_BIAS,
    large_fields,
    paper_fields,
    to_transformers,
)
from numpy_xlstm.checkpoints.safetensors import FLOATS, numpy_dtype, write_safetensors
from numpy_xlstm.checkpoints.torch_layers import described_options
from numpy_xlstm.disk import new_folder, replacing, write_text
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation import HuggingFaceTokenizer, Tokenizer
from numpy_xlstm.layers import GRU, LSTM, RNN
from numpy_xlstm.models import with_weight_mode, xLSTMBlockStack, xLSTMLarge, xLSTMLMModel
from numpy_xlstm.models.layouts import LAYOUTS, in_layout
from numpy_xlstm.models.names import to_transformers_names
from numpy_xlstm.numerics import Array, check_array, check_choice, checked_path

FORMATS: dict[str, tuple[type, ...]] = {
    "transformers": (xLSTMLarge,),
    "xlstm-large": (xLSTMLarge,),
    "xlstm": (xLSTMLMModel, xLSTMBlockStack),
    "torch": (LSTM, GRU, RNN),
    "npz": (object,),
    "safetensors": (object,),
}
"""The formats, and the models that each supports."""

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def save_pretrained(
    model: Any,
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    dtype: str | None = None,
    layout: str = "vanilla",
    max_shard_size: int | str | None = None,
    tokenizer: Tokenizer | None = None,
    progress: OnProgress | None = None,
) -> None:
    """Save a model atomically, in a format that an official package can load.

    Parameters
    ----------
    model
        Any model of this package.
    path : str or Path
        For "transformers", "xlstm-large" and "xlstm" a new or empty folder; otherwise a file.
    format : {"transformers", "xlstm", "xlstm-large", "torch", "npz", "safetensors"}, optional
        * "transformers": ``config.json`` and ``.safetensors``, with an index if there are several,
          for ``xLSTMForCausalLM.from_pretrained(path)``;
        * "xlstm-large": ``config.yaml`` and ``.safetensors`` for ``xlstm``'s
          ``load_from_pretrained(path)``. Weights are stored separately in these two formats, which
          do not support fused ones;
        * "xlstm": ``config.yaml`` for ``xLSTMLMModelConfig`` or ``xLSTMBlockStackConfig`` through
          dacite, and the state dict;
        * "torch": the state dict of a ``torch.nn.LSTM``, ``GRU`` or ``RNN``, as ``.safetensors``;
        * "npz" and "safetensors": the formats of this package.

        By default the suffix of a file determines the format. For a folder it is the first format
        that supports the model.
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        Dtype to which the parameters are rounded; their dtype if omitted.
    layout : {"vanilla", "cuda"}
        For the format "xlstm": the backend in whose layout R and b of an sLSTM are stored.
    max_shard_size : int or str, optional
        Largest size of the arrays in one file of a folder, in bytes or such as "5GB". If omitted,
        all arrays are in one file.
    tokenizer : Tokenizer, optional
        Tokenizer of the model. Files of this package support any tokenizer; folders support a
        :class:`HuggingFaceTokenizer`, which is saved as ``tokenizer.json``.
    progress : callable, optional
        Function that is called after each array with the number of bytes written and the total. It
        is not called for "npz" and "safetensors".

    Raises
    ------
    CheckpointError
        If the format does not support the model, the dtype cannot hold its numbers, or the path
        exists and is not an empty folder. Then nothing is written.
    NonFiniteError
        If a parameter is not finite.
    OptionError
        If an option is invalid.
    MissingExtraError
        If YAML or bfloat16 needs a package that is not installed.
    OSError
        If the path cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from numpy_xlstm import xLSTMLarge, xLSTMLargeConfig
    >>> model = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=2, vocab_size=9))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(model, f"{folder}/a", format="transformers", max_shard_size="40KB")
    ...     for file in sorted(Path(folder, "a").iterdir()):
    ...         print(file.name)
    config.json
    model-00001-of-00002.safetensors
    model-00002-of-00002.safetensors
    model.safetensors.index.json
    """
    path = checked_path("path", path)
    kind = check_saving(model, path, format, tokenizer)
    check_choice("layout", layout, LAYOUTS)
    if dtype is not None:
        check_choice("dtype", dtype, FLOATS)
    if kind in ("npz", "safetensors"):
        save_checkpoint(path, model, tokenizer=tokenizer, dtype=dtype)
        return
    limit = _limit(max_shard_size)
    for name, array in model.params.items():
        check_array(name, array, array.shape)
    stored = check_choice("dtype", dtype or model.dtype.name, FLOATS)
    numpy_dtype(stored)  # raise the error of a missing package before a file is made
    if kind == "torch":
        _write_torch(path, model, stored, progress)
        return
    files = FOLDERS[kind](model, stored, layout)
    with new_folder(path) as partial:
        if isinstance(tokenizer, HuggingFaceTokenizer):
            write_text(partial / TOKENIZER, tokenizer.json)
        _write_folder(partial, *files, stored, limit, progress)


def check_saving(
    model: Any, path: Path, wanted: str | None, tokenizer: Tokenizer | None = None
) -> str:
    """Return the format, or raise those errors of :func:`save_pretrained` that need no numbers.

    The model may be shape-only, such as :attr:`Pretrained.model`.
    """
    kind = _format(model, path, wanted)
    if not path.absolute().parent.is_dir():
        raise CheckpointError(f"path: expected one in an existing folder; got {path.parent}")
    if kind in IN_FOLDERS and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError(f"path: expected a new path or an empty folder; {path} exists")
    if tokenizer is not None and not can_hold(kind, tokenizer):
        raise CheckpointError(
            f"tokenizer: expected a HuggingFaceTokenizer for the format {kind!r}; "
            f"got {type(tokenizer).__name__}"
        )
    return kind


def can_hold(kind: str, tokenizer: Tokenizer) -> bool:
    """Return whether a model in this format can be saved with this tokenizer."""
    in_folder = kind in IN_FOLDERS and isinstance(tokenizer, HuggingFaceTokenizer)
    return in_folder or kind in ("npz", "safetensors")


def _format(model: Any, path: Path, wanted: str | None) -> str:
    """Return the wanted format if it supports the model, or by default the first that does."""
    if wanted is not None:
        check_choice("format", wanted, FORMATS)
    elif path.suffix in (".npz", ".safetensors"):
        wanted = path.suffix.removeprefix(".")
    else:
        wanted = next((kind for kind, models in FORMATS.items() if isinstance(model, models)), "")
    if not isinstance(model, FORMATS[wanted]):
        kinds = ", ".join(sorted(each.__name__ for each in FORMATS[wanted]))
        raise CheckpointError(
            f"model: expected one of {kinds} for the format {wanted!r}; got {type(model).__name__}"
        )
    suffix = {"torch": ".safetensors", "npz": ".npz", "safetensors": ".safetensors"}.get(wanted)
    if suffix is not None and path.suffix != suffix:
        raise CheckpointError(f"path: expected a name that ends in {suffix}; got {path.name}")
    return wanted


def _limit(size: int | str | None) -> float:
    """Convert a size to bytes."""
    if size is None:
        return float("inf")
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?B)", str(size).upper())
    bytes_ = size if isinstance(size, int) else match and float(match[1]) * UNITS[match[2]]
    if isinstance(size, bool) or not bytes_ or bytes_ <= 0:
        raise OptionError(f"max_shard_size: expected bytes, such as '5GB'; got {size!r}")
    return bytes_


Files = tuple[str, str, Mapping[str, Array], str, bool]
"""Name and text of the configuration, the arrays, the name of a file if there are several, and
whether there is an index."""


def _transformers(model: xLSTMLarge, stored: str, layout: str) -> Files:
    model = with_weight_mode(model, "single")  # "fused" cannot be initialised there
    config = to_transformers(model.config, model.special_tokens, stored)
    arrays = dict(model.params)
    if arrays.pop(OUTPUT_BIAS, np.zeros(1)).any():
        raise CheckpointError(
            f"{OUTPUT_BIAS}: expected 0, because transformers has none; got other numbers"
        )
    names = "model-{0:05d}-of-{1:05d}.safetensors"
    return "config.json", _json(config), to_transformers_names(arrays), names, True


def _xlstm_large(model: xLSTMLarge, stored: str, layout: str) -> Files:
    single = with_weight_mode(model, "single")
    names = "model_{2}.safetensors"
    return "config.yaml", _yaml(large_fields(single.config)), single.params, names, False


def _xlstm(model: Any, stored: str, layout: str) -> Files:
    arrays = in_layout(dict(model.params), layout)
    if model.shared is not None:
        arrays[model.shared[0]] = arrays[model.shared[1]]
    names = "model-{0:05d}-of-{1:05d}.safetensors"
    return "config.yaml", _yaml(paper_fields(model.config, layout)), arrays, names, True


def _write_torch(path: Path, layer: Any, stored: str, progress: OnProgress | None) -> None:
    """Write a layer, whose parameters have PyTorch's names."""
    done, total = 0, sum(a.size for a in layer.params.values()) * numpy_dtype(stored).itemsize
    metadata = {"format": "pt", **described_options(layer)}
    with replacing(path) as file:
        dtypes = dict.fromkeys(layer.params, stored)
        for nbytes in write_safetensors(file, layer.params, dtypes, metadata):
            done += nbytes
            if progress is not None:
                progress(done, total)


FOLDERS = {"transformers": _transformers, "xlstm-large": _xlstm_large, "xlstm": _xlstm}
"""Functions that make the files of each format."""


def _json(values: Any) -> str:
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def _yaml(values: Any) -> str:
    return str(yaml_package().safe_dump(values, sort_keys=False))


def _write_folder(
    path: Path,
    config: str,
    text: str,
    arrays: Mapping[str, Array],
    name: str,
    index: bool,
    dtype: str,
    limit: float,
    progress: OnProgress | None,
) -> None:
    """Write the configuration and the arrays into an empty folder."""
    width = numpy_dtype(dtype).itemsize
    shards = _shards(arrays, width, limit)
    total, done = sum(array.size * width for array in arrays.values()), 0
    files = [name.format(n + 1, len(shards), n) for n in range(len(shards))]
    files = files if len(shards) > 1 else [WHOLE]
    write_text(path / config, text)
    for file, shard in zip(files, shards, strict=True):
        dtypes = dict.fromkeys(shard, dtype)
        with replacing(path / file) as opened:
            for nbytes in write_safetensors(opened, shard, dtypes, {"format": "pt"}):
                done += nbytes
                if progress is not None:
                    progress(done, total)
    if index and len(shards) > 1:
        places = {n: file for file, shard in zip(files, shards, strict=True) for n in shard}
        content = {"metadata": {"total_size": total}, "weight_map": places}
        write_text(path / INDEX, _json(content))


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
