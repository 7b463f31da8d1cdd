"""Save a model as a checkpoint of this or an official package: ``save_pretrained``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.description import Format, Saving
from numpy_xlstm.checkpoints.formats import FORMATS
from numpy_xlstm.checkpoints.safetensors import FLOATS
from numpy_xlstm.disk import checked_path
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation import Tokenizer
from numpy_xlstm.models.layouts import LAYOUTS
from numpy_xlstm.numerics import (
    Array,
    check_bool,
    check_choice,
    check_kind,
)


def save_pretrained(
    model: Any,
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    dtype: str | None = None,
    layout: str = "vanilla",
    tokenizer: Tokenizer | None = None,
    step: bool = False,
    training: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Array] | None = None,
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
    tokenizer : Tokenizer, optional
        Tokenizer of the model. In a folder it is the file ``tokenizer.json`` of the package
        ``tokenizers``, and in an ONNX file this text is the metadata entry ``tokenizer.json``.
    step : bool
        For the format "onnx": whether the graph takes exactly one step, without loops.
    training, arrays : Mapping, optional
        For the format "safetensors": JSON values about the training, and arrays such as an
        optimiser's moments, whose names do not begin with "model.". ``Pretrained.training`` and
        :meth:`Pretrained.load_arrays` return them.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from numpy_xlstm import xLSTMLarge, xLSTMLargeConfig
    >>> model = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=2, vocab_size=9))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(model, f"{folder}/a", format="transformers")
    ...     for file in sorted(Path(folder, "a").iterdir()):
    ...         print(file.name)
    config.json
    model.safetensors
    """
    path = checked_path("path", path)
    form = check_saving(model, path, format, tokenizer)
    check_choice("layout", layout, LAYOUTS)
    if dtype is not None:
        check_choice("dtype", dtype, FLOATS)
    if check_bool("step", step) and form.name != "onnx":
        raise OptionError(f"step: expected False for the format {form.name!r}; got True")
    for name, given in {"training": training, "arrays": arrays}.items():
        if given is not None and form.name != "safetensors":
            raise OptionError(f"{name}: expected None for the format {form.name!r}; got a value")
        if given is not None:
            check_kind(name, given, Mapping)
    form.write(model, path, Saving(dtype, layout, tokenizer, step, training or {}, arrays or {}))


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
