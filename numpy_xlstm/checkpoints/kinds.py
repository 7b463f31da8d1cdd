"""The kinds of models in checkpoints of this package, and their configurations."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from numpy_xlstm.config import Config, Count, Real
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.layers import GRU, LSTM, RNN, Recurrent, mLSTM, sLSTM
from numpy_xlstm.models import (
    LanguageModel,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)

BODIES: dict[str, Any] = {kind.__name__: kind for kind in (LSTM, GRU, RNN, sLSTM, mLSTM)}
"""Possible bodies of a :class:`LanguageModel`."""

NOT_IN_A_BODY = "batch_first", "bidirectional"
"""Options of a layer that are always the same in a :class:`LanguageModel`."""


class Kind(NamedTuple):
    """Conversion between a kind of model and its configuration."""

    describe: Callable[[Any], dict[str, Any]]
    """Function from a model to its configuration, as JSON values."""
    build: Callable[[dict[str, Any], np.random.Generator], Recurrent]
    """Function from a configuration and a :class:`MetaInitialisation` to a shape-only model."""

    @classmethod
    def configured(cls, model: Callable[..., Any], config: Any) -> "Kind":
        """Make the kind of models that ``model(config.from_dict(…), dtype=…, rng=…)`` builds."""
        return cls(
            lambda built: dict(built.config.to_dict()),
            lambda described, rng: model(config.from_dict(described), dtype=np.float64, rng=rng),
        )


def _describe_language_model(model: LanguageModel) -> dict[str, Any]:
    kind = type(model.body).__name__
    if kind not in BODIES:
        raise CheckpointError(f"body: expected one of {', '.join(BODIES)}; got {kind}")
    names = _option_names(BODIES[kind], *NOT_IN_A_BODY)
    return {
        "vocab_size": model.vocab_size,
        "embedding_size": model.embedding_size,
        "cell": {"kind": kind, "options": {n: getattr(model.body, n) for n in names}},
        "options": {
            "tied": model.tied,
            "head_bias": "head.bias" in model.params,
            "cap": model.cap,
            "embedding_dropout": model.embedding_dropout,
        },
    }


@dataclass(frozen=True)
class CellDescription(Config):
    """Body of a :class:`LanguageModel`, which checks its options."""

    kind: Literal["LSTM", "GRU", "RNN", "sLSTM", "mLSTM"]
    options: dict[str, Any]


@dataclass(frozen=True)
class LanguageModelOptions(Config):
    """Options of a :class:`LanguageModel`."""

    tied: bool
    head_bias: bool
    cap: Real | None
    embedding_dropout: Real


@dataclass(frozen=True)
class LanguageModelDescription(Config):
    """Description of a :class:`LanguageModel` in a checkpoint."""

    vocab_size: Count
    embedding_size: Count
    cell: CellDescription
    options: LanguageModelOptions


def _build_language_model(config: dict[str, Any], rng: np.random.Generator) -> LanguageModel:
    description = LanguageModelDescription.read("config", config)
    layer = BODIES[description.cell.kind]
    names = _option_names(layer, *NOT_IN_A_BODY)
    options = _checked_names("config.cell.options", description.cell.options, names)
    body = layer(**options, dtype=np.float64, rng=rng)
    sizes = description.vocab_size, description.embedding_size
    return LanguageModel(*sizes, body, **description.options.to_dict(), rng=rng)


def _option_names(layer: Any, *without: str) -> list[str]:
    """Return the names of the arguments of a layer's constructor that describe it."""
    without = ("dtype", "rng", *without)
    return [name for name in inspect.signature(layer).parameters if name not in without]


def _checked_names(place: str, options: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return options that have exactly these names. The layer checks their values."""
    for name in sorted({*options} ^ {*names}):
        expected, got = ("no such option", "one") if name in options else ("a value", "none")
        raise CheckpointError(f"{place}.{name:.80}: expected {expected}; got {got}")
    return options


def _layer(kind: Any) -> Kind:
    """Make the kind of a layer."""
    names = _option_names(kind)
    return Kind(
        lambda layer: {name: getattr(layer, name) for name in names},
        lambda config, rng: kind(
            **_checked_names("config", config, names), dtype=np.float64, rng=rng
        ),
    )


KINDS = {
    "LanguageModel": Kind(_describe_language_model, _build_language_model),
    "xLSTMBlockStack": Kind.configured(xLSTMBlockStack, xLSTMBlockStackConfig),
    "xLSTMLMModel": Kind.configured(xLSTMLMModel, xLSTMLMModelConfig),
    "xLSTMLarge": Kind.configured(xLSTMLarge, xLSTMLargeConfig),
    **{name: _layer(kind) for name, kind in BODIES.items()},
}
"""Kinds of models in a checkpoint, by the names of their classes."""


def kind_of(name: str) -> Kind:
    """Return the kind with this name, or raise :class:`CheckpointError`."""
    if name not in KINDS:
        raise CheckpointError(f"kind: expected one of {', '.join(KINDS)}; got {name!r:.80}")
    return KINDS[name]
