"""Constructors of all cells, layers, models and configurations, with valid arguments."""

import inspect
from typing import Any

import numpy as np

from numpy_xlstm import cells, layers, models
from tests.models.build import large_config, lm_config, mlstm_block, slstm_block
from tests.reliability.calls import Fresh, Make, made, rng

RNG = Fresh(rng)
SIZES = {"input_size": 3, "hidden_size": 4}
DRAWN: dict[str, Any] = {"dtype": np.float64, "rng": RNG}
HEADS: dict[str, Any] = {"num_heads": 2, "forget_gate": "exp"}
MEMORY = HEADS | {"qk_dim": 6, "input_gate": "exp", "eps": 1e-6}
STACKED = {"num_layers": 2, "batch_first": True, "dropout": 0.1, "bidirectional": True}


def builders() -> dict[str, Make]:
    """Return calls that make each cell, layer, model and configuration."""
    return _cells() | _recurrent_layers() | _other_layers() | _models() | _configs()


def _cells() -> dict[str, Make]:
    plain = cells.LSTMCell, cells.GRUCell, cells.OriginalGRUCell, cells.ElmanCell
    found = {
        cell.__name__: made(cell, **SIZES, **DRAWN) for cell in (*plain, cells.PeepholeLSTMCell)
    }
    return found | {
        "LSTMPCell": made(cells.LSTMPCell, **SIZES, proj_size=2, **DRAWN),
        "sLSTMCell": made(cells.sLSTMCell, **SIZES, **HEADS, **DRAWN),
        "mLSTMCell": made(cells.mLSTMCell, **SIZES, **MEMORY, **DRAWN),
    }


def _recurrent_layers() -> dict[str, Make]:
    return {
        "sLSTM": made(layers.sLSTM, **SIZES, **HEADS, batch_first=True, **DRAWN),
        "mLSTM": made(
            layers.mLSTM,
            **SIZES,
            **MEMORY,
            form="chunkwise",
            chunk_size=3,
            batch_first=True,
            **DRAWN,
        ),
        "LSTM": made(layers.LSTM, **SIZES, **STACKED, bias=True, proj_size=2, **DRAWN),
        "GRU": made(layers.GRU, **SIZES, **STACKED, bias=True, **DRAWN),
        "RNN": made(layers.RNN, **SIZES, **STACKED, bias=True, nonlinearity="tanh", **DRAWN),
        "stack_layers": made(
            layers.stack_layers, layer=layers.sLSTM, **SIZES, **STACKED, num_heads=2, rng=RNG
        ),
        "SequenceLayer": made(layers.SequenceLayer, cell=cells.GRUCell(3, 4), batch_first=True),
    }


def _other_layers() -> dict[str, Make]:
    return {
        "Linear": made(layers.Linear, in_features=3, out_features=4, bias=True, **DRAWN),
        "HeadwiseLinear": made(
            layers.HeadwiseLinear, in_features=4, num_heads=2, bias=True, out_features=4, **DRAWN
        ),
        "CausalConv1d": made(layers.CausalConv1d, feature_dim=3, kernel_size=2, bias=True, **DRAWN),
        "Embedding": made(layers.Embedding, num_embeddings=5, embedding_dim=3, **DRAWN),
        "Dropout": made(layers.Dropout, p=0.2),
        "GatedFeedForward": made(
            layers.GatedFeedForward,
            embedding_dim=3,
            proj_up_dim=4,
            act_fn="gelu",
            bias=True,
            **DRAWN,
        ),
        "LayerNorm": made(layers.LayerNorm, num_features=3, eps=1e-5, bias=True, dtype=np.float64),
        "RMSNorm": made(layers.RMSNorm, num_features=3, eps=1e-5, bias=True, dtype=np.float64),
    }


def _models() -> dict[str, Make]:
    found = {
        "LanguageModel": made(
            models.LanguageModel,
            vocab_size=5,
            embedding_size=3,
            body=Fresh(lambda: layers.sLSTM(3, 4, 2, rng=rng())),
            tied=False,
            head_bias=True,
            cap=3.0,
            embedding_dropout=0.1,
            rng=RNG,
        ),
    }
    for model, config in (
        (models.xLSTMLMModel, lm_config()),
        (models.xLSTMLarge, large_config()),
        (models.xLSTMLargeBlock, large_config()),
        (models.mLSTMBlock, mlstm_block(embedding_dim=8)),
        (models.sLSTMBlock, slstm_block(embedding_dim=8)),
        (models.mLSTMLayer, mlstm_block(embedding_dim=8).mlstm),
        (models.sLSTMLayer, slstm_block(embedding_dim=8).slstm),
        (models.xLSTMBlockStack, stack_config()),
    ):
        found[model.__name__] = made(model, config=config, **DRAWN)
    return found


def _configs() -> dict[str, Make]:
    found: dict[str, Make] = {}
    inner: tuple[Any, ...] = mlstm_block().mlstm, slstm_block().slstm, slstm_block().feedforward
    configs: tuple[Any, ...] = (
        lm_config(),
        large_config(),
        stack_config(),
        mlstm_block(),
        slstm_block(),
        *inner,
    )
    for config in configs:
        options = {n: v for n, v in vars(config).items() if not n.startswith("_")}
        found[type(config).__name__] = made(type(config), **options)
        found[f"{type(config).__name__}.from_dict"] = made(
            type(config).from_dict, **{_first(type(config).from_dict): config.to_dict()}
        )
    return found


def stack_config() -> Any:
    kind = models.xLSTMBlockStackConfig
    fields = inspect.signature(kind).parameters
    return kind.from_dict({n: v for n, v in lm_config().to_dict().items() if n in fields})


def _first(function: Any) -> str:
    return next(iter(inspect.signature(function).parameters))
