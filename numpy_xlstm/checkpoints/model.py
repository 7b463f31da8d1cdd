"""A model in a file: its parameters bit for bit, and all that is needed to build it again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.checkpoints.files import read_arrays, write_arrays
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.generation import Tokenizer, tokenizer_from_dict
from numpy_xlstm.layers import GRU, LSTM, RNN, mLSTM, sLSTM
from numpy_xlstm.models import (
    LanguageModel,
    RecurrentModel,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.numerics import Array, check_array, check_has, check_kind

FORMAT = 1
"""The version of what is in the file."""

PREFIX = "model."
"""What the names of the parameters begin with, and of no other array."""

SIZES = ("input_size", "hidden_size")
GATES = ("forget_gate", "input_gate")
RNN_OPTIONS = (*SIZES, "num_layers", "bias", "dropout")
CELLS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "LSTM": (LSTM, (*RNN_OPTIONS, "proj_size")),
    "GRU": (GRU, RNN_OPTIONS),
    "RNN": (RNN, (*RNN_OPTIONS, "nonlinearity")),
    "sLSTM": (sLSTM, (*SIZES, "num_heads", "forget_gate")),
    "mLSTM": (mLSTM, (*SIZES, "num_heads", "qk_dim", "form", "chunk_size", "eps", *GATES)),
}
"""What the body of a :class:`LanguageModel` may be, and the options that describe it."""


class Kind(NamedTuple):
    """How a kind of model is described, and built from its description."""

    describe: Callable[[Any], dict[str, Any]]
    """From a model to its configuration, which JSON can hold."""
    build: Callable[[dict[str, Any], npt.DTypeLike], RecurrentModel]
    """From a configuration and a dtype to a model with any parameters."""

    @classmethod
    def configured(cls, model: Callable[..., Any], config: Any) -> "Kind":
        """Return the kind of what is built by ``model(config.from_dict(…), dtype=…, rng=…)``."""
        return cls(
            lambda built: dict(built.config.to_dict()),
            lambda described, dtype: model(
                config.from_dict(described), dtype=dtype, rng=np.random.default_rng(0)
            ),
        )


def _describe_language_model(model: LanguageModel) -> dict[str, Any]:
    kind = type(model.body).__name__
    if kind not in CELLS:
        raise CheckpointError(f"body: expected one of {', '.join(CELLS)}; got {kind}")
    _, names = CELLS[kind]
    return {
        "vocab_size": model.vocab_size,
        "embedding_size": model.embedding_size,
        "cell": {"kind": kind, "options": {n: getattr(model.body, n) for n in names}},
        "options": {
            "tied": model.tied,
            "head_bias": "head.bias" in model.params,
            "cap": model.cap,
            "embedding_dropout": model.embedding_dropout.p,
        },
    }


def _build_language_model(config: dict[str, Any], dtype: npt.DTypeLike) -> LanguageModel:
    cell, options, rng = config["cell"], config.get("options", {}), np.random.default_rng(0)
    layer, _ = CELLS[cell["kind"]]
    body = layer(**cell["options"], dtype=dtype, rng=rng)
    return LanguageModel(config["vocab_size"], config["embedding_size"], body, **options, rng=rng)


KINDS = {
    "LanguageModel": Kind(_describe_language_model, _build_language_model),
    "xLSTMLMModel": Kind.configured(xLSTMLMModel, xLSTMLMModelConfig),
    "xLSTMLarge": Kind.configured(xLSTMLarge, xLSTMLargeConfig),
}
"""The kinds of models that a checkpoint can hold, by the names of their classes."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds."""

    model: Any
    """The model, as it was."""
    tokenizer: Tokenizer | None
    """The tokenizer that its ids come from, or ``None``."""
    training: dict[str, Any]
    """Where its training stood; empty if nothing was said."""
    arrays: dict[str, Array]
    """All arrays that are not parameters of the model, such as the moments of an optimiser."""


def save_checkpoint(
    path: str | Path,
    model: RecurrentModel,
    *,
    tokenizer: Tokenizer | None = None,
    training: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Array] | None = None,
) -> None:
    """Write a model to a file, all or nothing.

    Parameters
    ----------
    path : str or Path
        ``*.npz`` or ``*.safetensors``; see :func:`write_arrays`.
    model : RecurrentModel
        Of one of the kinds in :data:`KINDS`.
    tokenizer, training, arrays
        As in :class:`Checkpoint`; ``training`` is what JSON can hold, and no name in ``arrays``
        begins with "model.".

    Raises
    ------
    CheckpointError, NonFiniteError
        If the kind of the model is unknown, something cannot be stored, or a parameter is not
        finite.
    OptionError
        If ``tokenizer`` is none, or ``training`` or ``arrays`` is not by name. In any of these
        cases the file that was there, if any, is unchanged.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from numpy_xlstm import LSTM, LanguageModel
    >>> model = LanguageModel(10, 4, LSTM(4, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/model.npz", model, training={"step": 3})
    ...     loaded = load_checkpoint(f"{folder}/model.npz")
    >>> loaded.training, sorted(loaded.model.params) == sorted(model.params)
    ({'step': 3}, True)
    """
    if tokenizer is not None:
        check_has("tokenizer", tokenizer, "to_dict")
    training = {} if training is None else training
    arrays = {} if arrays is None else arrays
    check_kind("training", training, Mapping)
    check_kind("arrays", arrays, Mapping)
    if mine := [name for name in arrays if name.startswith(PREFIX)]:
        raise CheckpointError(f"arrays: expected names without {PREFIX!r} before; got {mine[0]!r}")
    kind = type(model).__name__
    metadata = {
        "format": FORMAT,
        "kind": kind,
        "config": _kind(kind).describe(model),
        "dtype": str(model.dtype),
        "tokenizer": None if tokenizer is None else tokenizer.to_dict(),
        "training": dict(training),
    }
    for name, array in model.params.items():
        check_array(name, array, array.shape)
    parameters = {PREFIX + name: array for name, array in model.params.items()}
    write_arrays(path, parameters | dict(arrays), metadata)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read what :func:`save_checkpoint` has written: parameters bit for bit.

    Raises
    ------
    CheckpointError
        If the file is damaged or of another format or version, the kind of the model is unknown,
        or its parameters are not those of its configuration.
    OSError
        If there is no such file, or it cannot be read.
    """
    arrays, metadata = read_arrays(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{Path(path).name}: expected format version {FORMAT}; got {metadata.get('format')!r}"
        )
    model = _build(metadata)
    stored = [name for name in arrays if name.startswith(PREFIX)]
    params = {name.removeprefix(PREFIX): arrays.pop(name) for name in stored}
    check_same_arrays("parameters", model.params, params)
    for name, array in model.params.items():
        array[...] = params[name]
    described = metadata.get("tokenizer")
    tokenizer = None if described is None else tokenizer_from_dict(described)
    return Checkpoint(model, tokenizer, metadata.get("training") or {}, arrays)


def _kind(name: Any) -> Kind:
    if name not in KINDS:
        raise CheckpointError(f"kind: expected one of {', '.join(KINDS)}; got {name!r}")
    return KINDS[name]


def _build(metadata: dict[str, Any]) -> RecurrentModel:
    kind = _kind(metadata.get("kind"))
    try:
        return kind.build(metadata["config"], metadata["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"config: expected that of a {metadata['kind']}; got one that builds none "
            f"({type(error).__name__}: {error})"
        ) from error


def check_same_arrays(what: str, expected: Mapping[str, Array], got: Mapping[str, Array]) -> None:
    """Raise :class:`CheckpointError` unless both have the same names, shapes and dtypes."""
    if missing := expected.keys() - got.keys():
        raise CheckpointError(f"{what}: expected {sorted(missing)[0]!r} too; got none")
    if unknown := got.keys() - expected.keys():
        raise CheckpointError(f"{what}: expected no {sorted(unknown)[0]!r}; got one")
    for name, array in expected.items():
        wanted, found = (f"{a.dtype.name} {a.shape}" for a in (array, got[name]))
        if wanted != found:
            raise CheckpointError(f"{name}: expected {wanted}; got {found}")
