"""The kinds of models in checkpoints of this package, and their configurations."""

import inspect
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

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
from numpy_xlstm.numerics import check_choice

LAYERS: dict[str, Any] = {layer.__name__: layer for layer in (LSTM, GRU, RNN, sLSTM, mLSTM)}
"""Layers that can be the body of a :class:`LanguageModel`."""


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

    @classmethod
    def layer(cls, layer: Any, *without: str) -> "Kind":
        """Make the kind of a layer, described by the arguments of its constructor."""
        arguments = inspect.signature(layer).parameters
        names = [name for name in arguments if name not in ("dtype", "rng", *without)]

        def build(config: dict[str, Any], rng: np.random.Generator) -> Recurrent:
            _check_names("config", config, names)
            built: Recurrent = layer(**config, dtype=np.float64, rng=rng)
            return built

        return cls(lambda built: {name: getattr(built, name) for name in names}, build)


BODIES = {name: Kind.layer(layer, "batch_first", "bidirectional") for name, layer in LAYERS.items()}
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
    body = BODIES[check_choice("cell.kind", cell["kind"], BODIES)].build(cell["options"], rng)
    return LanguageModel(config["vocab_size"], config["embedding_size"], body, **options, rng=rng)


def _check_names(place: str, options: dict[str, Any], names: Collection[str]) -> None:
    """Raise an error unless the options have these names. The constructors check their values."""
    for name in sorted({*options} ^ {*names}):
        expected, got = ("no such option", "one") if name in options else ("a value", "none")
        raise CheckpointError(f"{place}.{name:.80}: expected {expected}; got {got}")


KINDS = {
    "LanguageModel": Kind(_describe_language_model, _build_language_model),
    "xLSTMBlockStack": Kind.configured(xLSTMBlockStack, xLSTMBlockStackConfig),
    "xLSTMLMModel": Kind.configured(xLSTMLMModel, xLSTMLMModelConfig),
    "xLSTMLarge": Kind.configured(xLSTMLarge, xLSTMLargeConfig),
    **{name: Kind.layer(layer) for name, layer in LAYERS.items()},
}
"""Kinds of models in a checkpoint, by the names of their classes."""


def kind_of(name: str) -> Kind:
    """Return the kind with this name, or raise :class:`CheckpointError`."""
    if name not in KINDS:
        raise CheckpointError(f"kind: expected one of {', '.join(KINDS)}; got {name!r:.80}")
    return KINDS[name]
