"""Models of the commands: built from options or loaded for ``train``, loaded for others."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm import models
from numpy_xlstm.checkpoints import Pretrained, open_pretrained
from numpy_xlstm.cli.display import bar_of
from numpy_xlstm.documents import read_values
from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers import LSTM, mLSTM, sLSTM

CELLS: dict[str, Any] = {"lstm": LSTM, "slstm": sLSTM, "mlstm": mLSTM}


def open_language_model(path: Path, layout: str | None = None) -> Pretrained:
    """Open a checkpoint, or raise :class:`OptionError` if it has another kind of model."""
    pretrained = open_pretrained(path, layout=layout)
    if not isinstance(pretrained.model, models.LanguageModel):
        kind = type(pretrained.model).__name__
        raise OptionError(f"checkpoint: expected a language model; got {kind} in {pretrained.path}")
    return pretrained


def load_exactly(pretrained: Pretrained, dtype: str | None = None) -> Any:
    """Load a model; without a dtype that is wider, matrices in 16 bits stay as they are."""
    dtype = dtype or pretrained.dtype
    with bar_of("bytes") as progress:
        weights = "stored" if dtype == "float32" else "widened"
        return pretrained.load(dtype, progress=progress, weights=weights)


def build(
    options: Namespace, vocab_size: int, rng: np.random.Generator, pretrained: Pretrained | None
) -> Any:
    """Build or load the model, or raise :class:`OptionError` if an option does not fit it."""
    model: Any
    if pretrained is not None:
        if pretrained.model.vocab_size < vocab_size:
            size = pretrained.model.vocab_size
            raise OptionError(
                f"tokenizer: expected at most the {size} ids of the model; got {vocab_size}"
            )
        model = pretrained.load(options.dtype, mapped=False)
    elif options.model == "cell":
        D, H = options.embedding_size, options.hidden_size
        wanted = {"forget_gate": options.forget_gate, "input_gate": options.input_gate}
        wanted["num_heads"] = options.heads
        given: Any = {name: value for name, value in wanted.items() if value is not None}
        cell = CELLS[options.cell](D, H, dtype=options.dtype, rng=rng, **given)
        model = models.LanguageModel(vocab_size, D, cell, rng=rng)
    else:
        kind = models.xLSTMLMModel if options.model == "xlstm" else models.xLSTMLarge
        model = kind(_config(options, vocab_size), dtype=options.dtype, rng=rng)
    if options.recompute and not isinstance(model.body, models.BlockStack):
        got = f"a {type(model).__name__} of one {type(model.body).__name__}"
        raise OptionError(f"recompute: expected a model made of blocks; got {got}")
    return model


def _config(options: Namespace, vocab_size: int) -> Any:
    small = options.model == "xlstm"
    kind: Any = models.xLSTMLMModelConfig if small else models.xLSTMLargeConfig
    if options.config is not None:
        values = read_values(options.config)
        if isinstance(values, dict) and values.get("vocab_size", -1) == -1:
            values["vocab_size"] = vocab_size
        config = kind.from_dict(values)
        if config.vocab_size < vocab_size:
            raise OptionError(
                f"vocab_size: expected at least the {vocab_size} ids of the tokenizer; "
                f"got {config.vocab_size} in {options.config}"
            )
        return config
    sizes = {"vocab_size": vocab_size, "embedding_dim": options.width, "num_blocks": options.blocks}
    heads = {"num_heads": options.heads}
    if not small:
        return kind.from_dict(sizes | heads | {"weight_mode": options.weight_mode})
    blocks = {"mlstm_block": {"mlstm": heads}, "slstm_block": {"slstm": heads}}
    more = {"dropout": options.dropout, "slstm_at": options.slstm_at}
    return kind.from_dict(sizes | blocks | more | {"context_length": options.window})
