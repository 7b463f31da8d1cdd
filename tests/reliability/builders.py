"""Constructors of all cells, layers, models and configurations, with valid arguments."""

import inspect
from typing import Any

import numpy as np

from numpy_xlstm import cells, layers, models
from tests.models.build import large_config, lm_config, mlstm_block, slstm_block
from tests.reliability.calls import Fresh, Make, made, rng

RNG = Fresh(rng)
KNOWN: dict[str, Any] = {
    "act_fn": "gelu",
    "batch_first": True,
    "bias": True,
    "bidirectional": True,
    "body": Fresh(lambda: layers.sLSTM(3, 4, 2, rng=rng())),
    "cap": 3.0,
    "cell": cells.GRUCell(3, 4),
    "chunk_size": 3,
    "dropout": 0.1,
    "dtype": np.float64,
    "embedding_dim": 3,
    "embedding_dropout": 0.1,
    "embedding_size": 3,
    "eps": 1e-6,
    "feature_dim": 3,
    "forget_gate": "exp",
    "form": "chunkwise",
    "head_bias": True,
    "hidden_size": 4,
    "in_features": 4,
    "input_gate": "exp",
    "input_size": 3,
    "kernel_size": 2,
    "nonlinearity": "tanh",
    "num_embeddings": 5,
    "num_heads": 2,
    "num_layers": 2,
    "out_features": 4,
    "p": 0.2,
    "proj_size": 2,
    "proj_up_dim": 4,
    "qk_dim": 6,
    "rng": RNG,
    "tied": False,
    "vocab_size": 5,
}
"""Valid arguments of constructors by name."""

KINDS: tuple[Any, ...] = (
    *(cells.LSTMCell, cells.GRUCell, cells.OriginalGRUCell, cells.ElmanCell),
    *(cells.PeepholeLSTMCell, cells.LSTMPCell, cells.sLSTMCell, cells.mLSTMCell),
    *(layers.LSTM, layers.GRU, layers.RNN, layers.sLSTM, layers.mLSTM, layers.SequenceLayer),
    *(layers.Linear, layers.HeadwiseLinear, layers.CausalConv1d, layers.Embedding, layers.Dropout),
    *(layers.GatedFeedForward, models.LanguageModel),
)


def builders() -> dict[str, Make]:
    """Return calls that make each cell, layer, model and configuration."""
    calls = {kind.__name__: made(kind, **_known(kind)) for kind in KINDS}
    for norm in (layers.LayerNorm, layers.RMSNorm):
        calls[norm.__name__] = made(norm, num_features=3, eps=1e-5, bias=True, dtype=np.float64)
    names = inspect.signature(layers.stack_layers).parameters.keys() & KNOWN.keys()
    stack = {name: KNOWN[name] for name in names} | {"num_heads": 2, "rng": RNG}
    calls["stack_layers"] = made(layers.stack_layers, layer=layers.sLSTM, **stack)
    stacked, drawn = stack_config(), {"dtype": np.float64, "rng": RNG}
    mlstm, slstm = mlstm_block(embedding_dim=8), slstm_block(embedding_dim=8)
    for model, config in (
        (models.xLSTMLMModel, lm_config()),
        (models.xLSTMLarge, large_config()),
        (models.xLSTMLargeBlock, large_config()),
        (models.mLSTMBlock, mlstm),
        (models.sLSTMBlock, slstm),
        (models.mLSTMLayer, mlstm.mlstm),
        (models.sLSTMLayer, slstm.slstm),
        (models.xLSTMBlockStack, stacked),
    ):
        calls[model.__name__] = made(model, config=config, **drawn)
    blocks: tuple[Any, ...] = mlstm_block(), slstm_block()
    inner: tuple[Any, ...] = blocks[0].mlstm, blocks[1].slstm, blocks[1].feedforward
    for config in (lm_config(), large_config(), stacked, *blocks, *inner):
        kind: Any = type(config)
        options = {n: v for n, v in vars(config).items() if not n.startswith("_")}
        calls[kind.__name__] = made(kind, **options)
        calls[f"{kind.__name__}.from_dict"] = made(kind.from_dict, values=config.to_dict())
    return calls


def _known(function: Any) -> dict[str, Any]:
    return {n: KNOWN[n] for n in inspect.signature(function).parameters if n in KNOWN}


def stack_config() -> Any:
    kind = models.xLSTMBlockStackConfig
    fields = inspect.signature(kind).parameters
    return kind.from_dict({n: v for n, v in lm_config().to_dict().items() if n in fields})
