"""Save a model as a checkpoint of this or an official package: ``save_pretrained``."""

import re
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.description import Format, Saving
from numpy_xlstm.checkpoints.formats import FORMATS
from numpy_xlstm.checkpoints.loading import OnProgress
from numpy_xlstm.checkpoints.safetensors import FLOATS
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation import Tokenizer
from numpy_xlstm.models.layouts import LAYOUTS
from numpy_xlstm.numerics import check_bool, check_choice, checked_path

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
    step: bool = False,
) -> None:
    """Save a model atomically, in a format of this package, an official package, PyTorch or ONNX.

    Parameters
    ----------
    model
        Any model of this package.
    path : str or Path
        A new or empty folder, or a file with the suffix of the format.
    format : str, optional
        Name of a format in ``numpy_xlstm.checkpoints.FORMATS``: "transformers", "xlstm" and
        "xlstm-large" for folders of these packages, where weights of xLSTM Large are stored
        separately; "torch" for the state dict of a layer; "onnx" for a graph that any ONNX runtime
        runs; and "safetensors" for files of this package. By default the suffix of a file
        determines the format. For a folder it is the first format that supports the model.
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        Dtype to which the parameters are rounded; not rounded if omitted.
    layout : {"vanilla", "cuda"}
        For the format "xlstm": the backend in whose layout R and b of an sLSTM are stored.
    max_shard_size : int or str, optional
        Largest size of the arrays in one file of a folder: a number of bytes, or a text such as
        "5GB". If omitted, all arrays are in one file.
    tokenizer : Tokenizer, optional
        Tokenizer of the model. In a folder it is the file ``tokenizer.json`` of the package
        ``tokenizers``, and in an ONNX file this text is the metadata entry ``tokenizer.json``.
    progress : callable, optional
        Function that is called after each array with the number of bytes written and the total. It
        is not called for "safetensors" and "onnx".
    step : bool
        For the format "onnx": whether the graph takes exactly one step, without loops.

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
    form = check_saving(model, path, format, tokenizer)
    check_choice("layout", layout, LAYOUTS)
    if dtype is not None:
        check_choice("dtype", dtype, FLOATS)
    if check_bool("step", step) and form.name != "onnx":
        raise OptionError(f"step: expected False for the format {form.name!r}; got True")
    limit = _limit(max_shard_size)
    form.write(model, path, Saving(dtype, layout, limit, tokenizer, progress, step))


def check_saving(
    model: Any, path: Path, wanted: str | None, tokenizer: Tokenizer | None = None
) -> Format:
    """Return the format, or raise the errors of :func:`save_pretrained` that need no parameters.

    The model may be shape-only, such as :attr:`Pretrained.model`.
    """
    form = _format(model, path, wanted)
    if not path.absolute().parent.is_dir():
        raise CheckpointError(f"path: expected one in an existing folder; got {path.parent}")
    like_file = re.fullmatch(r"\.[a-z]\w*", path.suffix, re.IGNORECASE)
    if not form.suffix and like_file and not path.is_dir():
        files = " or ".join(sorted({known.suffix for known in FORMATS.values() if known.suffix}))
        raise CheckpointError(
            f"path: expected a file that ends in {files}, or a folder without such a suffix; "
            f"got {path.name}"
        )
    if not form.suffix and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError(f"path: expected a new path or an empty folder; {path} exists")
    if tokenizer is not None and form.name == "torch":
        got = type(tokenizer).__name__
        raise CheckpointError(f"tokenizer: expected None for the format 'torch'; got {got}")
    return form


def formats_of(model: Any) -> list[str]:
    """Return the names of the formats in which a model can be saved."""
    return [name for name, form in FORMATS.items() if isinstance(model, form.models)]


def _format(model: Any, path: Path, wanted: str | None) -> Format:
    if wanted is not None:
        form = FORMATS[check_choice("format", wanted, FORMATS)]
    else:
        suffixes = {form.suffix for form in FORMATS.values()}
        suffix = path.suffix if path.suffix in suffixes else ""
        named = (form for form in FORMATS.values() if form.suffix == suffix)
        fitting = (form for form in named if isinstance(model, form.models))
        form = next(fitting, FORMATS["safetensors"])
    if not isinstance(model, form.models):
        kinds = " or ".join(sorted(kind.__name__ for kind in form.models))
        raise CheckpointError(
            f"model: expected {kinds} for the format {form.name!r}; got {type(model).__name__}, "
            f"for which there are {', '.join(formats_of(model))}"
        )
    if not path.name.endswith(form.suffix):
        raise CheckpointError(f"path: expected a name that ends in {form.suffix}; got {path.name}")
    return form


def _limit(size: int | str | None) -> float:
    if size is None:
        return float("inf")
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?B)", str(size).upper())
    bytes_ = size if isinstance(size, int) else match and float(match[1]) * UNITS[match[2]]
    if isinstance(size, bool) or not bytes_ or bytes_ <= 0:
        raise OptionError(f"max_shard_size: expected bytes, such as '5GB'; got {size!r}")
    return bytes_
