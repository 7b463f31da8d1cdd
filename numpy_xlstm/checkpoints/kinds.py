"""The kinds of models in checkpoints of this package, and their configurations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.checkpoints.metadata import LANGUAGE_MODEL, MAPPING, Check, choice, options
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

WIDTHS = ("input_size", "hidden_size")
RNN_OPTIONS = (*WIDTHS, "num_layers", "bias", "dropout")
BODIES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "LSTM": (LSTM, (*RNN_OPTIONS, "proj_size")),
    "GRU": (GRU, RNN_OPTIONS),
    "RNN": (RNN, (*RNN_OPTIONS, "nonlinearity")),
    "sLSTM": (sLSTM, (*WIDTHS, "num_heads", "forget_gate")),
    "mLSTM": (
        mLSTM,
        (*WIDTHS, "num_heads", "qk_dim", "form", "chunk_size", "eps", "forget_gate", "input_gate"),
    ),
}
"""Possible bodies of a :class:`LanguageModel`, and the options that describe them."""


class Kind(NamedTuple):
    """Conversion between a kind of model and its configuration."""

    describe: Callable[[Any], dict[str, Any]]
    """Function from a model to its configuration, as JSON values."""
    build: Callable[[dict[str, Any], np.random.Generator], Recurrent]
    """Function from a configuration and a :class:`MetaInitialisation` to a shape-only model."""
    check: Check = MAPPING
    """Validation of the configuration in a file."""

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
    _, names = BODIES[kind]
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


def _check_language_model(place: str, config: Any) -> None:
    LANGUAGE_MODEL(place, config)
    cell = config["cell"]
    choice(BODIES)(f"{place}.cell.kind", cell["kind"])
    options(BODIES[cell["kind"]][1])(f"{place}.cell.options", cell["options"])


def _build_language_model(config: dict[str, Any], rng: np.random.Generator) -> LanguageModel:
    layer, _ = BODIES[config["cell"]["kind"]]
    body = layer(**config["cell"]["options"], dtype=np.float64, rng=rng)
    sizes = config["vocab_size"], config["embedding_size"]
    return LanguageModel(*sizes, body, **config["options"], rng=rng)


def _layer(kind: Callable[..., Any], names: tuple[str, ...]) -> Kind:
    """Make the kind of a layer with these options.

    ``batch_first`` is added to them, and ``bidirectional`` if they contain ``num_layers``.
    """
    names += ("batch_first", "bidirectional") if "num_layers" in names else ("batch_first",)
    return Kind(
        lambda layer: {name: getattr(layer, name) for name in names},
        lambda given, rng: kind(**given, dtype=np.float64, rng=rng),
        options(names),
    )


KINDS = {
    "LanguageModel": Kind(_describe_language_model, _build_language_model, _check_language_model),
    "xLSTMBlockStack": Kind.configured(xLSTMBlockStack, xLSTMBlockStackConfig),
    "xLSTMLMModel": Kind.configured(xLSTMLMModel, xLSTMLMModelConfig),
    "xLSTMLarge": Kind.configured(xLSTMLarge, xLSTMLargeConfig),
    **{name: _layer(*described) for name, described in BODIES.items()},
}
"""Kinds of models in a checkpoint, by the names of their classes."""


def kind_of(name: Any) -> Kind:
    """Return the kind with this name, or raise :class:`CheckpointError`."""
    if name == "SmallModel" and name not in KINDS:
        raise CheckpointError("kind: a model of an experiment; import numpy_xlstm.experiments first")
    choice(KINDS)("kind", name)
    return KINDS[name]
