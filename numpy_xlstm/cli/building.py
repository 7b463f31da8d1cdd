"""The model that the options of ``numpy-xlstm train`` ask for."""

import argparse
import math
from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, Any

from numpy_xlstm.cli.recipes import HEADS
from numpy_xlstm.errors import OptionError

if TYPE_CHECKING:
    import numpy as np

    from numpy_xlstm.models import LanguageModel, xLSTMLarge, xLSTMLMModel

    Build = Callable[[argparse.Namespace, int, np.random.Generator], Any]


def build(args: argparse.Namespace, vocab_size: int, rng: "np.random.Generator") -> Any:
    """Build the model.

    Raises
    ------
    OptionError
        If the model does not take an option.
    """
    model = BUILDERS[args.model](args, vocab_size, rng)
    if args.recompute and "recompute" not in signature(model.forward).parameters:
        raise OptionError(
            f"--recompute: expected a model that can recompute; got {describe(args, model)}"
        )
    return model


def _cell(args: argparse.Namespace, vocab_size: int, rng: "np.random.Generator") -> "LanguageModel":
    from numpy_xlstm.experiments import build_model

    return build_model(
        args.cell,
        vocab_size,
        embedding_size=args.embedding_size,
        hidden_size=args.hidden_size,
        dtype=args.dtype,
        rng=rng,
        num_heads=_heads(args, args.hidden_size) if args.cell in HEADS else args.heads,
        forget_gate=args.forget_gate,
        input_gate=args.input_gate,
    )


def _xlstm(args: argparse.Namespace, vocab_size: int, rng: "np.random.Generator") -> "xLSTMLMModel":
    from numpy_xlstm import models

    if args.config is not None:
        config = _load(models.xLSTMLMModelConfig, args.config, vocab_size)
    else:
        heads = _heads(args, args.width)
        config = models.xLSTMLMModelConfig(
            mlstm_block=models.mLSTMBlockConfig(models.mLSTMLayerConfig(num_heads=heads)),
            slstm_block=models.sLSTMBlockConfig(models.sLSTMLayerConfig(num_heads=heads)),
            context_length=args.window,
            num_blocks=args.blocks,
            embedding_dim=args.width,
            dropout=args.dropout,
            slstm_at=args.slstm_at,
            vocab_size=vocab_size,
        )
    return models.xLSTMLMModel(config, dtype=args.dtype, rng=rng)


def _xlstm_large(
    args: argparse.Namespace, vocab_size: int, rng: "np.random.Generator"
) -> "xLSTMLarge":
    from numpy_xlstm.models import xLSTMLarge, xLSTMLargeConfig

    if args.config is not None:
        config = _load(xLSTMLargeConfig, args.config, vocab_size)
    else:
        config = xLSTMLargeConfig(
            embedding_dim=args.width,
            num_heads=_heads(args, args.width // 2),
            num_blocks=args.blocks,
            vocab_size=vocab_size,
            weight_mode=args.weight_mode,
        )
    return xLSTMLarge(config, dtype=args.dtype, rng=rng)


BUILDERS: "dict[str, Build]" = {"cell": _cell, "xlstm": _xlstm, "xlstm-large": _xlstm_large}


def _heads(args: argparse.Namespace, width: int) -> int:
    """The number of heads that is asked for, or the default as far as it divides the width."""
    default = HEADS[args.cell if args.model == "cell" else args.model]
    return int(args.heads) if args.heads is not None else math.gcd(default, width)


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


def name(args: argparse.Namespace) -> str:
    """What the model is called in the results."""
    return str(args.cell if args.model == "cell" else args.model)


def describe(args: argparse.Namespace, model: Any) -> str:
    """Say in a few words what model it is."""
    if args.model == "cell":
        return f"{args.cell}: {model.body.hidden_size} wide"
    config = model.config
    facts = [f"{config.num_blocks} blocks", f"{config.embedding_dim} wide"]
    if args.model == "xlstm":
        places = [str(n) for n, kind in enumerate(config.kinds) if kind == "slstm"]
        facts.append(f"sLSTM at {', '.join(places)}" if places else "no sLSTM")
    return f"{args.model}: {', '.join(facts)}"
