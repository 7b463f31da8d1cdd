"""Loading of any checkpoint in one call: ``from_pretrained``."""

from pathlib import Path
from typing import Any, TypeVar, overload

import numpy.typing as npt

from numpy_xlstm.checkpoints.description import MAPPED, Content, Pretrained
from numpy_xlstm.checkpoints.folders import CONFIGS, find_tensors
from numpy_xlstm.checkpoints.formats import FORMATS
from numpy_xlstm.checkpoints.loading import OnProgress
from numpy_xlstm.checkpoints.tensors import open_tensors
from numpy_xlstm.disk import checked_path
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.layers import Recurrent
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.models.layouts import LAYOUTS
from numpy_xlstm.numerics import check_choice

M = TypeVar("M", bound=Recurrent)
"""Class of the model in a checkpoint."""


@overload
def from_pretrained(
    path: str | Path,
    kind: None = None,
    *,
    dtype: npt.DTypeLike | None = None,
    layout: str | None = None,
    mapped: bool = MAPPED,
    progress: OnProgress | None = None,
    weights: str = "widened",
) -> LanguageModel[tuple[Any, ...]]: ...
@overload
def from_pretrained(
    path: str | Path,
    kind: type[M],
    *,
    dtype: npt.DTypeLike | None = None,
    layout: str | None = None,
    mapped: bool = MAPPED,
    progress: OnProgress | None = None,
    weights: str = "widened",
) -> M: ...
def from_pretrained(
    path: str | Path,
    kind: type[M] | None = None,
    *,
    dtype: npt.DTypeLike | None = None,
    layout: str | None = None,
    mapped: bool = MAPPED,
    progress: OnProgress | None = None,
    weights: str = "widened",
) -> Any:
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
    return opened.load(dtype, mapped=mapped, progress=progress, weights=weights)


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
        check_choice("layout", layout, LAYOUTS)
    if not path.exists():
        raise FileNotFoundError(f"checkpoint: expected a file or folder; {path} does not exist")
    tensors = find_tensors(path) if path.is_dir() else open_tensors(path)
    content = Content(path, tensors, layout)
    for form in FORMATS.values():
        if form.recognises(content):
            return form.read(content)
    if content.config is None:
        where = "in it" if path.is_dir() else "next to it"
        raise CheckpointError(f"{path.name}: expected {' or '.join(CONFIGS)} {where}; got none")
    raise CheckpointError(
        f"{content.config[0].name}: expected the fields of an xLSTM, with mlstm_block or "
        f"slstm_block, or with embedding_dim and num_heads; got {sorted(content.values)[:8]}"
    )
