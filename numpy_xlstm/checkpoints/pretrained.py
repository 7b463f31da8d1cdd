"""Loading and saving of any checkpoint in one call, and the registry of formats."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from numpy_xlstm.checkpoints.description import MAPPED, Content, Format, Pretrained, Saving
from numpy_xlstm.checkpoints.loading import OnProgress
from numpy_xlstm.checkpoints.onnx import ONNX
from numpy_xlstm.checkpoints.own import SAFETENSORS
from numpy_xlstm.checkpoints.safetensors import FLOATS
from numpy_xlstm.checkpoints.tensors import CONFIGS
from numpy_xlstm.checkpoints.torch_layers import TORCH
from numpy_xlstm.checkpoints.transformers import TRANSFORMERS
from numpy_xlstm.checkpoints.xlstm_package import XLSTM, XLSTM_LARGE
from numpy_xlstm.disk import checked_path
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation import Tokenizer
from numpy_xlstm.layers import Recurrent
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.models.state_dict import LAYOUTS
from numpy_xlstm.numerics import Array, check_kind, checked_bool, checked_choice
from numpy_xlstm.torch_habits import advising

FORMATS = {form.name: form for form in (SAFETENSORS, ONNX, TORCH, TRANSFORMERS, XLSTM, XLSTM_LARGE)}
"""The formats. A checkpoint has the first one whose ``read`` does not return None."""

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # Python has defaults from 3.13 on

    M = TypeVar("M", bound=Recurrent, default=LanguageModel[tuple[Any, ...]])
else:
    M = Any
"""Class of the model in a checkpoint."""


@advising
def from_pretrained(
    path: str | Path,
    kind: type[M] | None = None,
    *,
    dtype: npt.DTypeLike | None = None,
    layout: str | None = None,
    mapped: bool = MAPPED,
    progress: OnProgress | None = None,
    weights: str = "widened",
) -> M:
    """Load a model from a checkpoint of this or of an official package.

    Before any array is read, configuration, names, shapes, dtypes and sizes are checked against
    each other. Arrays are then read one at a time into their final place, so that peak memory is
    that of the model. All numbers are checked to be finite. No code in a file is run.

    Parameters
    ----------
    path : str or Path
        A folder of transformers' ``xLSTMForCausalLM`` or of the package ``xlstm``, with a
        ``config.json`` or ``config.yaml`` and one or several ``.safetensors`` files; or the folder
        of a run, for its best model; or a file written by :func:`save_pretrained` or by a
        training; or a ``.safetensors`` file with the state dict of a ``torch.nn.LSTM``, ``GRU``
        or ``RNN``. The format is detected from the content.
    kind : type, optional
        Class that the model must have, such as ``xLSTMLarge`` or ``LSTM``. Type checkers then know
        the class of the result. Without ``kind``, they take the result for a
        :class:`LanguageModel`.
    dtype : dtype, optional
        Dtype of the model, float32 or float64; by default that of the file. float16 and bfloat16
        are converted to float32, which is exact.
    layout : {"vanilla", "cuda"}, optional
        Layout of the bias of an sLSTM, if the file does not determine it or contradicts its
        configuration.
    mapped : bool
        Whether parameters that are stored in the dtype of the model are mapped from the file into
        memory. Writing to a parameter makes a private copy and never changes the file. While the
        model is in use, the file must not be modified, but it may be replaced or deleted. With
        False, all parameters are read immediately. The default is True except on Windows, where a
        mapped file cannot be replaced.
    progress : callable, optional
        Function that is called after each array with the number of bytes read and the total.
    weights : {"widened", "stored"}
        With "stored", matrices of linear maps and embeddings that the file has in bfloat16 or
        float16 stay as they are, mapped from the file, and products widen their numbers. The model
        computes in float32. It has no backward; saving it writes the same matrices.

    Returns
    -------
    model
        :class:`xLSTMLarge`, :class:`xLSTMLMModel`, :class:`xLSTMBlockStack`, or another model that
        was saved. ``model.special_tokens`` contains the special tokens of the configuration.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from numpy_xlstm import save_pretrained, xLSTMLarge, xLSTMLargeConfig
    >>> model = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(model, f"{folder}/large", format="transformers", dtype="float32")
    ...     loaded = from_pretrained(f"{folder}/large", xLSTMLarge)
    >>> loaded.config.num_heads, loaded.dtype
    (2, dtype('float32'))
    """
    opened = open_pretrained(path, layout=layout)
    if kind is not None and not isinstance(opened.model, kind):
        expected, got = f"a model of class {kind.__name__}", type(opened.model).__name__
        raise CheckpointError(f"{Path(path).name}: expected {expected}; got {got}")
    model: M = opened.load(dtype, mapped=mapped, progress=progress, weights=weights)
    return model


def open_pretrained(path: str | Path, *, layout: str | None = None) -> Pretrained:
    """Open a checkpoint without reading its arrays.

    Parameters
    ----------
    path, layout
        As in :func:`from_pretrained`.

    Returns
    -------
    Pretrained
        Names, shapes, dtypes and configuration. :meth:`Pretrained.load` reads the numbers.

    Examples
    --------
    >>> import tempfile
    >>> from numpy_xlstm import open_pretrained, save_pretrained, sLSTM
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(sLSTM(3, 4), f"{folder}/slstm.safetensors")
    ...     opened = open_pretrained(f"{folder}/slstm.safetensors")
    >>> opened.format, opened.dtype, sorted(opened.stored)
    ('safetensors', 'float64', ['R', 'W', 'b'])
    """
    path = checked_path("path", path)
    if layout is not None:
        checked_choice("layout", layout, LAYOUTS)
    if not path.exists():
        hint = f"; hf download {path} --local-dir {path.name} downloads it from Hugging Face"
        hint *= len(path.parts) == 2 and not path.parent.exists()
        raise FileNotFoundError(
            f"checkpoint: expected a file or folder; {path} does not exist{hint}"
        )
    content = Content(path, layout)
    for form in FORMATS.values():
        if (opened := form.read(content)) is not None:
            return opened
    if content.config is None:
        where = "in it" if path.is_dir() else "next to it"
        raise CheckpointError(f"{path.name}: expected {' or '.join(CONFIGS)} {where}; got none")
    raise CheckpointError(
        f"{content.config[0].name}: expected the fields of an xLSTM, with mlstm_block or "
        f"slstm_block, or with embedding_dim and num_heads; got {sorted(content.values)[:8]}"
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
        determines the format, and for a folder the class of the model.
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
    options = Saving(dtype, layout, tokenizer, step, training, arrays)
    checked_format(model, path, format, options).write(model, path, options)


def checked_format(model: Any, path: Path, wanted: str | None, options: Saving) -> Format:
    """Return the format, or raise the errors of :func:`save_pretrained` that need no parameters.

    The model may be shape-only, such as :attr:`Pretrained.model`.
    """
    form = _format(model, path, wanted)
    if options.dtype is not None:
        checked_choice("dtype", options.dtype, FLOATS)
    checked_choice("layout", options.layout, LAYOUTS)
    checked_bool("step", options.step)
    for name in ("training", "arrays"):
        if (given := getattr(options, name)) is not None:
            check_kind(name, given, Mapping)
    for name, value in options._asdict().items():
        default = Saving._field_defaults[name]
        if value != default and name not in ("dtype", *form.options):
            expected = f"{default!r} for the format {form.name!r}"
            raise OptionError(f"{name}: expected {expected}; got {value!r:.80}")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"path: expected one in an existing folder; got {path.parent}")
    like_file = re.fullmatch(r"\.[a-z]\w*", path.suffix, re.IGNORECASE)
    if not form.suffix and like_file and not path.is_dir():
        files = " or ".join(sorted({known.suffix for known in FORMATS.values() if known.suffix}))
        raise OptionError(
            f"path: expected a file that ends in {files}, or a folder without such a suffix; "
            f"got {path.name}"
        )
    if not form.suffix and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OptionError(f"path: expected a new path or an empty folder; {path} exists")
    return form


def formats_of(model: Any) -> list[str]:
    """Return the names of the formats in which a model can be saved."""
    return [name for name, form in FORMATS.items() if isinstance(model, form.models)]


def _format(model: Any, path: Path, wanted: str | None) -> Format:
    fitting = formats_of(model)
    if wanted is not None:
        form = FORMATS[checked_choice("format", wanted, FORMATS)]
    else:
        defaults = [FORMATS[name] for name in fitting if FORMATS[name].is_default]
        named = [known for known in defaults if path.name.endswith(known.suffix)]
        # a suffix says more than none, with which every name ends
        form = max(named, key=lambda known: len(known.suffix), default=SAFETENSORS)
    if form.name not in fitting:
        kinds = " or ".join(sorted(kind.__name__ for kind in form.models))
        raise CheckpointError(
            f"model: expected {kinds} for the format {form.name!r}; got {type(model).__name__}, "
            f"for which there are {', '.join(fitting)}"
        )
    if not path.name.endswith(form.suffix):
        raise OptionError(f"path: expected a name that ends in {form.suffix}; got {path.name}")
    return form
