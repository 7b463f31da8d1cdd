"""Checkpoints of this package: parameters, bit for bit, and the configuration of a model."""

import inspect
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.checkpoints.description import Content, Format, Pretrained, Saving
from numpy_xlstm.checkpoints.files import (
    as_json,
    dtypes_of,
    own_metadata,
    stored_dtypes,
    write_file,
)
from numpy_xlstm.checkpoints.loading import building, matched, meta_initialisation
from numpy_xlstm.checkpoints.safetensors import CHECKSUM
from numpy_xlstm.checkpoints.tensors import HEADER_KEY
from numpy_xlstm.config import Config, Count, Real
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.generation.tokenizers import TokenizerDescription
from numpy_xlstm.layers import GRU, LSTM, RNN, Recurrent, mLSTM, sLSTM
from numpy_xlstm.models import (
    LanguageModel,
    SpecialTokens,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.numerics import check_has, checked_choice

OFFICIAL: dict[type[Config], Callable[..., Any]] = {
    xLSTMLargeConfig: xLSTMLarge,
    xLSTMLMModelConfig: xLSTMLMModel,
    xLSTMBlockStackConfig: xLSTMBlockStack,
}
"""The model of each official configuration."""

LAYERS: dict[str, Any] = {layer.__name__: layer for layer in (LSTM, GRU, RNN, sLSTM, mLSTM)}
"""Layers that can be the body of a :class:`LanguageModel`."""


class Kind(NamedTuple):
    """Conversion between a kind of model and its configuration."""

    describe: Callable[[Any], dict[str, Any]]
    """Function from a model to its configuration, as JSON values."""
    build: Callable[[dict[str, Any], np.random.Generator], Recurrent]
    """Function from a configuration and a :class:`ShapesOnly` to a shape-only model."""

    @classmethod
    def configured(cls, model: Callable[..., Any], config: Any) -> "Kind":
        """Make the kind of models that ``model(config.from_dict(…), dtype=…, rng=…)`` builds."""
        return cls(
            lambda built: dict(built.config.to_dict()),
            lambda described, rng: model(config.from_dict(described), dtype=np.float64, rng=rng),
        )

    @classmethod
    def layer(cls, layer: Any, *without: str, place: str = "config") -> "Kind":
        """Make the kind of a layer, described by the arguments of its constructor."""
        arguments = inspect.signature(layer).parameters
        names = [name for name in arguments if name not in ("dtype", "rng", *without)]

        def build(config: dict[str, Any], rng: np.random.Generator) -> Recurrent:
            _check_names(place, config, names)
            built: Recurrent = layer(**config, dtype=np.float64, rng=rng)
            return built

        return cls(lambda built: {name: getattr(built, name) for name in names}, build)


BODIES = {
    name: Kind.layer(layer, "batch_first", "bidirectional", place="config.cell.options")
    for name, layer in LAYERS.items()
}
"""Kinds of bodies, whose other options are always the same in a :class:`LanguageModel`."""


def _describe_language_model(model: LanguageModel) -> dict[str, Any]:
    kind = type(model.body).__name__
    if kind not in BODIES:
        raise CheckpointError(f"body: expected one of {', '.join(BODIES)}; got {kind}")
    return {
        "vocab_size": model.vocab_size,
        "embedding_size": model.embedding_size,
        "cell": {"kind": kind, "options": BODIES[kind].describe(model.body)},
        "options": {
            "tied": model.tied,
            "head_bias": "head.bias" in model.params,
            "cap": model.cap,
            "embedding_dropout": model.embedding_dropout,
        },
    }


def _build_language_model(config: dict[str, Any], rng: np.random.Generator) -> LanguageModel:
    _check_names("config", config, ("vocab_size", "embedding_size", "cell", "options"))
    cell, options = config["cell"], config["options"]
    _check_names("config.cell", cell, ("kind", "options"))
    _check_names("config.options", options, ("tied", "head_bias", "cap", "embedding_dropout"))
    body = BODIES[checked_choice("cell.kind", cell["kind"], BODIES)].build(cell["options"], rng)
    return LanguageModel(config["vocab_size"], config["embedding_size"], body, **options, rng=rng)


def _check_names(place: str, options: dict[str, Any], names: Collection[str]) -> None:
    """Raise an error unless the options have these names. The constructors check their values."""
    if not isinstance(options, dict):
        raise CheckpointError(f"{place}: expected a mapping of names; got {options!r:.80}")
    for name in sorted({*options} ^ {*names}):
        expected, got = ("no such option", "one") if name in options else ("a value", "none")
        raise CheckpointError(f"{place}.{name:.80}: expected {expected}; got {got}")


KINDS = {
    "LanguageModel": Kind(_describe_language_model, _build_language_model),
    **{model.__name__: Kind.configured(model, config) for config, model in OFFICIAL.items()},
    **{name: Kind.layer(layer) for name, layer in LAYERS.items()},
}
"""Kinds of models in a checkpoint, by the names of their classes."""


def kind_of(name: str) -> Kind:
    """Return the kind with this name, or raise :class:`CheckpointError`."""
    if name not in KINDS:
        hint = "; import numpy_xlstm.experiments first" if name == "SmallModel" else ""
        raise CheckpointError(f"kind: expected one of {', '.join(KINDS)}; got {name!r:.80}{hint}")
    return KINDS[name]


FORMAT = 1
"""Version of the format."""

PREFIX = "model."
"""Prefix of the names of the parameters, and of no other array."""


@dataclass(frozen=True)
class CheckpointMetadata(Config):
    """Metadata of a checkpoint. ``config`` is checked by the kind of model."""

    format: int
    kind: str
    config: dict[str, Any]
    tokenizer: TokenizerDescription | None
    training: dict[str, Any]
    special_tokens: tuple[Count | None, list[Count], Count | None, bool] | None = None

    def __post_init__(self) -> None:
        """Check the fields, and the fields that every training has."""
        super().__post_init__()
        TrainingFacts.read("training", self.training, others=True)


@dataclass(frozen=True)
class TrainingFacts(Config):
    """Fields of any training. A validation is a step and its result in bits."""

    step: Count = 0
    tokens: Count = 0
    validations: list[tuple[Count, Real]] = field(default_factory=list)


def _write(model: Any, path: Path, options: Saving) -> None:
    arrays, tokenizer = options.arrays or {}, options.tokenizer
    if tokenizer is not None:
        check_has("tokenizer", tokenizer, "to_dict")
    if mine := [name for name in map(str, arrays) if name.startswith(PREFIX)]:
        raise CheckpointError(f"arrays: expected names without prefix {PREFIX!r}; got {mine[0]!r}")
    kind = type(model).__name__
    metadata = {
        "format": FORMAT,
        "kind": kind,
        "config": kind_of(kind).describe(model),
        "tokenizer": None if tokenizer is None else tokenizer.to_dict(),
        "training": dict(options.training or {}),
    }
    tokens = getattr(model, "special_tokens", SpecialTokens())
    if tokens != SpecialTokens():
        metadata["special_tokens"] = list(tokens)
    text = as_json(metadata)
    CheckpointMetadata.read("", json.loads(text))
    dtypes = stored_dtypes(model.params, options.dtype)
    dtypes = dtypes_of(arrays) | {PREFIX + name: dtype for name, dtype in dtypes.items()}
    parameters = {PREFIX + name: array for name, array in model.params.items()}
    write_file(path, parameters | dict(arrays), dtypes, {HEADER_KEY: text})


def _read(content: Content) -> Pretrained | None:
    if HEADER_KEY not in content.metadata:
        return None
    path, metadata = content.path, own_metadata(content.path, content.metadata)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path.name}: expected format version {FORMAT}; got {metadata.get('format')!r:.80}"
        )
    if CHECKSUM not in content.metadata:
        raise CheckpointError(f"{path.name}: expected the checksums of a checkpoint; got none")
    CheckpointMetadata.read("", metadata)
    extra = dict(content.tensors)
    stored = {n.removeprefix(PREFIX): extra.pop(n) for n in [*extra] if n.startswith(PREFIX)}
    dtypes = sorted({array.dtype for array in stored.values()})
    if "float64" in dtypes and len(dtypes) > 1:
        raise CheckpointError(f"{path.name}: expected parameters of one dtype; got {dtypes}")
    kind = kind_of(metadata["kind"])
    rng = meta_initialisation("config.", metadata["config"], stored)
    with building("config"):
        model = kind.build(metadata["config"], rng)
    sources = matched(path.name, model.params, stored)
    tokens = SpecialTokens.checked(*(metadata.get("special_tokens") or SpecialTokens()))
    tokenizer, training = metadata["tokenizer"], metadata["training"]
    return Pretrained(path, SAFETENSORS.name, model, sources, tokens, tokenizer, training, extra)


SAFETENSORS: Format = Format(
    "safetensors",
    (object,),
    _read,
    _write,
    ".safetensors",
    options=("tokenizer", "training", "arrays"),
)
"""Checkpoints of this package: the model, and everything else that is given."""
