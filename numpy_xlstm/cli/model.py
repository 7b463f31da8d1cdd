"""The model that the options of ``numpy-xlstm train`` ask for."""

from typing import Any

import numpy as np

from numpy_xlstm import models
from numpy_xlstm.cli.options import TrainOptions
from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers import LSTM, mLSTM, sLSTM
from numpy_xlstm.training.step import check_step_options


def build(options: TrainOptions, vocab_size: int, rng: np.random.Generator) -> Any:
    """Build the model.

    Raises
    ------
    OptionError
        If the model does not take an option.
    """
    model = BUILDERS[options.model](options, vocab_size, rng)
    check_step_options(model, recompute=options.recompute)
    return model


def _cell(options: TrainOptions, vocab_size: int, rng: np.random.Generator) -> models.LanguageModel:
    layer: Any = {"lstm": LSTM, "slstm": sLSTM, "mlstm": mLSTM}[options.kind]
    wanted = {
        "num_heads": options.heads,
        "forget_gate": options.forget_gate,
        "input_gate": options.input_gate,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    D, H = options.embedding_size, options.hidden_size
    cell = layer(D, H, dtype=options.dtype, rng=rng, **given)
    return models.LanguageModel(vocab_size, D, cell, rng=rng)


def _xlstm(options: TrainOptions, vocab_size: int, rng: np.random.Generator) -> models.xLSTMLMModel:
    kind = models.xLSTMLMModelConfig
    if options.config is not None:
        config = _load(kind, options.config, vocab_size)
    else:
        config = kind(
            mlstm_block=models.mLSTMBlockConfig(models.mLSTMLayerConfig(num_heads=options.heads)),
            slstm_block=models.sLSTMBlockConfig(models.sLSTMLayerConfig(num_heads=options.heads)),
            context_length=options.window,
            num_blocks=options.blocks,
            embedding_dim=options.width,
            dropout=options.dropout,
            slstm_at=options.slstm_at,
            vocab_size=vocab_size,
        )
    return models.xLSTMLMModel(config, dtype=options.dtype, rng=rng)


def _large(options: TrainOptions, vocab_size: int, rng: np.random.Generator) -> models.xLSTMLarge:
    kind = models.xLSTMLargeConfig
    if options.config is not None:
        config = _load(kind, options.config, vocab_size)
    else:
        config = kind(
            embedding_dim=options.width,
            num_heads=options.heads,
            num_blocks=options.blocks,
            vocab_size=vocab_size,
            weight_mode=options.weight_mode,
        )
    return models.xLSTMLarge(config, dtype=options.dtype, rng=rng)


BUILDERS: dict[str, Any] = {"cell": _cell, "xlstm": _xlstm, "xlstm-large": _large}


def _load(kind: Any, path: str, vocab_size: int) -> Any:
    """Read a configuration; it has the size of the vocabulary from the tokenizer if it has none."""

    class Filled(kind):  # type: ignore[misc]
        @classmethod
        def from_dict(cls, values: Any) -> Any:
            if isinstance(values, dict) and values.get("vocab_size", -1) == -1:
                values = {**values, "vocab_size": vocab_size}
            return kind.from_dict(values)

    config = Filled.load(path)
    if config.vocab_size < vocab_size:
        raise OptionError(
            f"vocab_size: expected at least the {vocab_size} ids of the tokenizer; "
            f"got {config.vocab_size} in {path}"
        )
    return config


def describe(options: TrainOptions, model: Any) -> str:
    """Say in a few words what model it is."""
    if options.model == "cell":
        return f"{options.kind}: {options.hidden_size} wide"
    config = model.config
    facts = [f"{config.num_blocks} blocks", f"{config.embedding_dim} wide"]
    if options.model == "xlstm":
        places = [str(n) for n, kind in enumerate(config.kinds) if kind == "slstm"]
        facts.append(f"sLSTM at {', '.join(places)}" if places else "no sLSTM")
    return f"{options.model}: {', '.join(facts)}"
