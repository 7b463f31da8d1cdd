"""Loading of any checkpoint in one call: ``from_pretrained``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.checkpoints.folders import (
    CONFIGS,
    IN_FOLDERS,
    TOKENIZER,
    find_arrays,
    read_config,
)
from numpy_xlstm.checkpoints.loading import OnProgress, Source, check_same, read_all, widest
from numpy_xlstm.checkpoints.model import described_tokenizer, read_checkpoint
from numpy_xlstm.checkpoints.official_configs import OUTPUT_BIAS
from numpy_xlstm.checkpoints.official_models import open_official
from numpy_xlstm.checkpoints.tensors import HEADER_KEY, Stored, Tensors, check_total, open_tensors
from numpy_xlstm.checkpoints.torch_layers import is_torch_layer, open_torch_layer
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.generation import HuggingFaceTokenizer, Tokenizer
from numpy_xlstm.models import LanguageModel, SpecialTokens
from numpy_xlstm.models.layouts import LAYOUTS
from numpy_xlstm.numerics import (
    check_bool,
    check_callable,
    check_choice,
    checked_dtype,
    checked_path,
)

MAPPED = os.name == "posix"
"""Default of ``mapped``: whether parameters are mapped from their file into memory."""


COMPUTED = np.dtype(np.float32), np.dtype(np.float64)
"""Dtypes of a loaded model. Its ``astype`` makes copies with other dtypes."""


@dataclass(frozen=True)
class Pretrained:
    """Content of a checkpoint, from its configuration and headers, before arrays are read.

    Attributes
    ----------
    path : Path
        The folder or file.
    format : str
        "transformers", "xlstm-large", "xlstm", "torch", "npz" or "safetensors".
    model
        The shape-only model. ``print`` shows its names and shapes.
    sources : dict
        Source of each parameter.
    dtype : str
        Dtype of the loaded model: that of the file, or float32 if that is narrower.
    special_tokens : SpecialTokens
        Special tokens of the configuration.
    tokenizer : dict or None
        The ``to_dict()`` of the tokenizer in a checkpoint of this package; see
        :meth:`load_tokenizer`.
    training : dict
        Training values in a checkpoint of this package.
    tied : Stored, optional
        Matrix of a tied head, if the file contains it in addition to that of the embedding.

    Raises
    ------
    CheckpointError, NonFiniteError, OSError
        From :meth:`load`, if an array is damaged, contains NaN or infinity, or cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from numpy_xlstm import mLSTM, open_pretrained, save_pretrained
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(mLSTM(3, 4), f"{folder}/mlstm.npz")
    ...     mlstm = open_pretrained(f"{folder}/mlstm.npz").load(mapped=False)
    >>> mlstm.hidden_size
    4
    """

    path: Path
    format: str
    model: Any
    sources: Mapping[str, Source]
    dtype: str
    special_tokens: SpecialTokens
    tokenizer: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    tied: Stored | None = None
    """Matrix of a tied head, if the file contains it in addition to that of the embedding."""

    def __post_init__(self) -> None:
        if isinstance(self.model, LanguageModel):
            self.model.special_tokens = self.special_tokens

    @property
    def stored(self) -> dict[str, Stored]:
        """Arrays in the files, with dtype and shape, by the names of the parameters."""
        return {name: source.stored for name, source in self.sources.items()}

    def load_tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer of a checkpoint of this package or of a ``tokenizer.json``, or None.

        Raises
        ------
        OptionError, MissingExtraError
            If the tokenizer is invalid, or needs an extra that is not installed.
        """
        if self.tokenizer is not None:
            return described_tokenizer(self.tokenizer)
        file = (self.path if self.path.is_dir() else self.path.parent) / TOKENIZER
        beside = self.format in IN_FOLDERS and file.exists()
        return HuggingFaceTokenizer.from_file(file) if beside else None

    def load(
        self,
        dtype: npt.DTypeLike | None = None,
        *,
        mapped: bool = MAPPED,
        progress: OnProgress | None = None,
    ) -> Any:
        """Read the parameters and return the model; see :func:`from_pretrained`."""
        check_bool("mapped", mapped)
        if progress is not None:
            check_callable("progress", progress)
        to = checked_dtype(self.dtype if dtype is None else dtype, COMPUTED)
        params = read_all(self.sources, to, mapped=mapped, progress=progress)
        if OUTPUT_BIAS in self.model.params and OUTPUT_BIAS not in params:
            params[OUTPUT_BIAS] = np.zeros(self.model.params[OUTPUT_BIAS].shape, to)
        for name in self.model.params.keys() - params.keys():  # a tied head
            params[name] = params["embedding.weight"].copy()
        model = self.model.over({name: params[name] for name in self.model.params})
        if self.tied is not None:
            check_same(self.tied, model.embedding.params["weight"])
        return model


def from_pretrained(
    path: str | Path,
    *,
    dtype: npt.DTypeLike | None = None,
    layout: str | None = None,
    mapped: bool = MAPPED,
    max_bytes: int | None = None,
    progress: OnProgress | None = None,
) -> Any:
    """Load a model from a checkpoint of this or of an official package.

    Before any array is read, configuration, names, shapes, dtypes and sizes are checked against
    each other. Arrays are then read one at a time into their final place, so that peak memory is
    that of the model. All numbers are checked to be finite. No code in a file is run.

    Parameters
    ----------
    path : str or Path
        A folder of transformers' ``xLSTMForCausalLM`` or of the package ``xlstm``, with a
        ``config.json`` or ``config.yaml`` and one or several ``.safetensors`` files or an ``.npz``
        file; or a file of :func:`save_pretrained` or :func:`save_checkpoint`; or a ``.safetensors``
        or ``.npz`` file with the state dict of a ``torch.nn.LSTM``, ``GRU`` or ``RNN``. The format
        is detected from the content.
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
    max_bytes : int, optional
        Largest size of the stored arrays in bytes. The default is the size of the files plus 100
        MiB, for compressed files such as those of ``np.savez_compressed``.
    progress : callable, optional
        Function that is called after each array with the number of bytes read and the total.

    Returns
    -------
    model
        :class:`xLSTMLarge`, :class:`xLSTMLMModel`, :class:`xLSTMBlockStack`, or another model that
        was saved. ``model.special_tokens`` contains the special tokens of the configuration.

    Raises
    ------
    CheckpointError
        If anything is missing, superfluous, damaged or contradictory. The message contains the
        file, the array or field, and what was expected and found.
    NonFiniteError
        If a number is NaN or infinite.
    DTypeError
        If ``dtype`` is neither float32 nor float64.
    MissingExtraError
        If a file in YAML or bfloat16 needs a package that is not installed.
    OSError
        If there is no such file, or it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from numpy_xlstm import save_pretrained, xLSTMLarge, xLSTMLargeConfig
    >>> model = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(model, f"{folder}/large", format="transformers", dtype="float32")
    ...     loaded = from_pretrained(f"{folder}/large")
    >>> loaded.config.num_heads, loaded.dtype
    (2, dtype('float32'))
    """
    opened = open_pretrained(path, layout=layout, max_bytes=max_bytes)
    return opened.load(dtype, mapped=mapped, progress=progress)


def open_pretrained(
    path: str | Path, *, layout: str | None = None, max_bytes: int | None = None
) -> Pretrained:
    """Open a checkpoint without reading its arrays.

    Parameters
    ----------
    path, layout, max_bytes
        As in :func:`from_pretrained`.

    Returns
    -------
    Pretrained
        Names, shapes, dtypes and configuration. :meth:`Pretrained.load` reads the numbers.

    Raises
    ------
    CheckpointError, MissingExtraError, OSError
        As in :func:`from_pretrained`.

    Examples
    --------
    >>> import tempfile
    >>> from numpy_xlstm import open_pretrained, save_pretrained, sLSTM
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(sLSTM(3, 4), f"{folder}/slstm.npz")
    ...     found = open_pretrained(f"{folder}/slstm.npz")
    >>> found.format, found.dtype, sorted(found.stored)
    ('npz', 'float64', ['R', 'W', 'b'])
    """
    path = checked_path("path", path)
    if layout is not None:
        check_choice("layout", layout, LAYOUTS)
    if not path.exists():
        raise FileNotFoundError(f"checkpoint: expected a file or folder; {path} does not exist")
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and read_config(path) is None:
        files = {stored.path for stored in find_arrays(path).values()}
        if len(files) != 1:
            raise CheckpointError(f"{path.name}: expected {' or '.join(CONFIGS)}; got none")
        path = files.pop()
    if path.is_dir():
        arrays = find_arrays(path)
        check_total(path.name, arrays, max_bytes)
        return _open_official(path, folder, arrays, layout)
    found = open_tensors(path)
    check_total(path.name, found.arrays, max_bytes)
    if HEADER_KEY in found.metadata:
        return _open_own(path, found)
    if is_torch_layer(found.arrays):
        model, sources = open_torch_layer(found)
        tokens = SpecialTokens()
        return Pretrained(path, "torch", model, sources, widest(found.arrays), tokens)
    return _open_official(path, folder, found.arrays, layout)


def _open_own(path: Path, found: Tensors) -> Pretrained:
    own = read_checkpoint(path, found)
    return Pretrained(
        path,
        path.suffix.removeprefix("."),
        own.model,
        own.sources,
        own.dtype,
        own.special_tokens,
        own.metadata.get("tokenizer"),
        own.metadata.get("training"),
    )


def _open_official(
    path: Path, folder: Path, arrays: Mapping[str, Stored], layout: str | None
) -> Pretrained:
    kind, model, sources, tokens, tied = open_official(path, folder, arrays, layout)
    dtype = widest({name: source.stored for name, source in sources.items()})
    return Pretrained(path, kind, model, sources, dtype, tokens, tied=tied)
