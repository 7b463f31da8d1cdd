"""Description of a checkpoint format, and the content of a checkpoint before its arrays are read.

``pretrained.py`` contains the registry of all formats.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.checkpoints.loading import OnProgress, Source, read_all
from numpy_xlstm.checkpoints.safetensors import itemsize, numpy_dtype
from numpy_xlstm.checkpoints.tensors import (
    CONFIGS,
    Stored,
    Tensors,
    find_tensors,
    open_tensors,
    read_mapping,
    read_stored,
)
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation import HuggingFaceTokenizer, Tokenizer, TokenizerDescription
from numpy_xlstm.layers import Embedding, Linear
from numpy_xlstm.models import LanguageModel, SpecialTokens
from numpy_xlstm.models.state_dict import renamed, unwrapped
from numpy_xlstm.numerics import (
    Array,
    check_callable,
    checked_bool,
    checked_choice,
    checked_dtype,
)

MAPPED = os.name == "posix"
"""Default of ``mapped``: whether parameters are mapped from their file into memory."""

WEIGHTS = "widened", "stored"
"""Whether matrices with 16 bits are converted to the dtype of the model, or kept."""


@dataclass(frozen=True)
class Pretrained:
    """Content of a checkpoint, from its configuration and headers, before arrays are read.

    Attributes
    ----------
    path : Path
        The folder or file.
    format : str
        Name of the format in ``numpy_xlstm.checkpoints.FORMATS``.
    model
        The shape-only model. ``print`` shows its names and shapes.
    sources : dict
        Source of each parameter, except those that are 0.
    special_tokens : SpecialTokens
        Special tokens of the configuration.
    tokenizer : dict, Path or None
        The ``to_dict()`` of the tokenizer in a checkpoint of this package, or the path of a
        ``tokenizer.json``; see :meth:`load_tokenizer`.
    training : dict
        Training values that :func:`save_pretrained` was given.
    extra : dict
        Arrays other than the parameters, which :meth:`load_arrays` reads.

    Examples
    --------
    >>> import tempfile
    >>> from numpy_xlstm import mLSTM, open_pretrained, save_pretrained
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(mLSTM(3, 4), f"{folder}/mlstm.safetensors")
    ...     mlstm = open_pretrained(f"{folder}/mlstm.safetensors").load(mapped=False)
    >>> mlstm.hidden_size
    4
    """

    path: Path
    format: str
    model: Any
    sources: Mapping[str, Source]
    special_tokens: SpecialTokens = field(default_factory=SpecialTokens)
    tokenizer: Mapping[str, Any] | Path | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Stored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.model, LanguageModel):
            self.model.special_tokens = self.special_tokens

    @property
    def stored(self) -> dict[str, Stored]:
        """Arrays in the files, with dtype and shape, by the names of the parameters."""
        return {name: source.stored for name, source in self.sources.items()}

    @property
    def dtype(self) -> str:
        """Dtype of the loaded model: that of the file, or float32 if that is narrower."""
        dtypes = {stored.dtype for stored in self.stored.values()}
        return "float64" if "float64" in dtypes else "float32"

    def dtypes(self, to: npt.DTypeLike, weights: str) -> dict[str, np.dtype[Any]]:
        """Return the dtype of each parameter in a model of dtype ``to``.

        With ``weights`` "stored", matrices in 16 bits keep their dtype.
        """
        dtypes = dict.fromkeys(self.sources, np.dtype(to))
        if weights == "stored" and np.dtype(to) == np.float32:
            kept = {id(array) for array in matrices(self.model)}
            for name, stored in self.stored.items():
                if id(self.model.params[name]) in kept and itemsize(stored.dtype) == 2:
                    dtypes[name] = numpy_dtype(stored.dtype)
        return dtypes

    def num_bytes(self, weights: str) -> int:
        """Return the size of the parameters in the model's dtype."""
        dtypes = self.dtypes(self.dtype, weights)
        return sum(stored.size * dtypes[name].itemsize for name, stored in self.stored.items())

    def load_tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer that the checkpoint has or names; None if there is none."""
        if isinstance(self.tokenizer, Path):
            return HuggingFaceTokenizer.from_file(self.tokenizer)
        try:
            stored = self.tokenizer
            return None if stored is None else TokenizerDescription.from_dict(stored).tokenizer()
        except OptionError as error:
            raise CheckpointError(str(error)) from error

    def load_arrays(self) -> dict[str, Array]:
        """Return the arrays that :func:`save_pretrained` was given in addition to the model."""
        return read_stored(self.path.name, self.extra)

    def load(
        self,
        dtype: npt.DTypeLike | None = None,
        *,
        mapped: bool = MAPPED,
        progress: OnProgress | None = None,
        weights: str = "widened",
    ) -> Any:
        """Read the parameters and return the model; see :func:`from_pretrained`."""
        checked_bool("mapped", mapped)
        checked_choice("weights", weights, WEIGHTS)
        if progress is not None:
            check_callable("progress", progress)
        supported = np.dtype(np.float32), np.dtype(np.float64)
        to = checked_dtype(self.dtype if dtype is None else dtype, supported)
        if weights == "stored" and to != np.float32:
            raise OptionError(
                f"weights: expected 'widened' for a model in {to}; got 'stored' "
                "(dtype='float32' allows it)"
            )
        dtypes = self.dtypes(to, weights)
        narrower = any(array.itemsize == 2 for array in self.dtypes(to, "stored").values())
        hint = ""
        if narrower and weights == "widened":
            hint = " (with weights='stored', or --weights stored, matrices stay in 16 bits)"
        params = read_all(self.sources, dtypes, mapped=mapped, progress=progress, hint=hint)
        zeros = {n: np.zeros(a.shape, to) for n, a in self.model.params.items() if n not in params}
        return self.model.over(zeros | params)


def matrices(module: Any) -> Iterator[Array]:
    """Yield the matrices of all linear maps and embeddings in a module."""
    if isinstance(module, Linear | Embedding):
        yield module.params["weight"]
    for attribute in module.submodules:
        part = getattr(module, attribute)
        for inner in part if isinstance(part, list) else [part]:
            yield from matrices(inner)


@dataclass
class Content:
    """A folder or file whose format is not known yet. Each part is read when it is first used."""

    path: Path
    layout: str | None = None
    """Layout of the bias of an sLSTM, if the caller gives one."""

    @cached_property
    def _opened(self) -> Tensors:
        return find_tensors(self.path) if self.path.is_dir() else open_tensors(self.path)

    @property
    def tensors(self) -> dict[str, Stored]:
        """Arrays in its safetensors files, by their names there."""
        return self._opened[0]

    @property
    def metadata(self) -> Mapping[str, str]:
        """Other texts in the header of its safetensors file."""
        return self._opened[1]

    @property
    def folder(self) -> Path:
        """The folder, or the folder of the file."""
        return self.path if self.path.is_dir() else self.path.parent

    @cached_property
    def config(self) -> tuple[Path, dict[str, Any]] | None:
        """Path and values of the configuration in the folder, if there is one."""
        paths = (self.folder / name for name in CONFIGS)
        path = next((path for path in paths if path.exists()), None)
        return None if path is None else (path, read_mapping(path))

    @property
    def values(self) -> dict[str, Any]:
        """Values of the configuration; empty if there is none."""
        return {} if self.config is None else self.config[1]

    @cached_property
    def arrays(self) -> dict[str, Stored]:
        """Arrays by the names of this package, from those of transformers or of a wrapper."""
        return renamed(unwrapped(self.tensors), r"^backbone\.embeddings\.", "embedding.")


class Saving(NamedTuple):
    """Options of :func:`save_pretrained`, which describes them."""

    dtype: str | None = None
    layout: str = "vanilla"
    tokenizer: Tokenizer | None = None
    step: bool = False
    training: Mapping[str, Any] | None = None
    arrays: Mapping[str, Array] | None = None


class Format(NamedTuple):
    """A format of checkpoints. ``CONTRIBUTING.md`` describes how to add one."""

    name: str
    models: tuple[type, ...]
    """Classes of the models that it supports."""
    read: Callable[[Content], Pretrained | None]
    """Function that opens a checkpoint without reading its arrays; it returns None for a checkpoint
    of another format."""
    write: Callable[[Any, Path, Saving], None]
    """Function that writes a model to a file, or to a new or empty folder."""
    suffix: str = ""
    """End of the name of a file; empty for a folder."""
    options: Collection[str] = ("tokenizer",)
    """Fields of :class:`Saving` that it takes. Every format takes ``dtype``."""
    is_default: bool = True
    """Whether its models are saved in it if no format is named."""
