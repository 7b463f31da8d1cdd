"""The models of the experiments: a few blocks or layers between inputs and a linear head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm import models
from numpy_xlstm.cells import LSTMCell
from numpy_xlstm.checkpoints import KINDS, Kind
from numpy_xlstm.config import Config, Count
from numpy_xlstm.layers import (
    GRU,
    LSTM,
    RNN,
    CausalConv1d,
    GatedFeedForward,
    LayerNorm,
    Linear,
    Recurrent,
    SequenceLayer,
    mLSTM,
)
from numpy_xlstm.models import BlockStack, LanguageModel, ResidualBlock
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import check_array, check_batch, checked_choice
from numpy_xlstm.numerics.initial import small_init

POINT = 3
"""Width of the input without a vocabulary: a point in the plane, and its value."""

Body = Callable[..., Recurrent]
"""Function ``body(dtype=…, rng=…)`` that builds the part between inputs and head."""


def layers(kind: Callable[..., Any], width: int, hidden: int, number: int) -> Body:
    """Return the body of layers as in PyTorch."""
    return lambda **known: kind(width, hidden, num_layers=number, **known)


def blocks(width: int, slstm_at: list[int], number: int, heads: int) -> Body:
    """Return the body of official blocks: mLSTM, and sLSTM at some places."""
    config = models.xLSTMBlockStackConfig(
        mlstm_block=models.mLSTMBlockConfig(models.mLSTMLayerConfig(num_heads=heads)),
        slstm_block=models.sLSTMBlockConfig(models.sLSTMLayerConfig(num_heads=heads)),
        num_blocks=number,
        embedding_dim=width,
        slstm_at=slstm_at,
    )
    return lambda **known: models.xLSTMBlockStack(config, **known)


def residual(width: int, up: int | None, number: int) -> Body:
    """Return the body of residual blocks of an LSTM, with a feed-forward layer of width ``up``."""

    def body(**known: Any) -> Recurrent:
        blocks = []
        for _ in range(number):
            parts: list[Any] = [SequenceLayer(LSTMCell(width, width, **known)), norm(known)]
            if up is not None:
                parts += [GatedFeedForward(width, up, "gelu", **known), norm(known)]
            blocks.append(ResidualBlock(*parts))
        return BlockStack(blocks, norm(known), "post_blocks_norm")

    def norm(known: dict[str, Any]) -> LayerNorm:
        return LayerNorm(width, dtype=known["dtype"])

    return body


def head(keys: int) -> Body:
    """Return the body of a convolution and one mLSTM head, with keys of width ``keys``."""

    def body(**known: Any) -> Recurrent:
        layers: list[Recurrent] = [CausalConv1d(64, **known)]
        layers.append(mLSTM(64, 64, qk_dim=keys, **known))
        blocks = [ResidualBlock(layer, LayerNorm(64, dtype=known["dtype"])) for layer in layers]
        return BlockStack(blocks, LayerNorm(64, dtype=known["dtype"]), "post_blocks_norm")

    return body


TASK_MODELS: dict[str, Body] = {
    "slstm": blocks(64, [0, 1], 2, 1),
    "lstm": layers(LSTM, 64, 88, 2),
    "mlstm": blocks(64, [], 2, 1),
    "xlstm": blocks(64, [1], 2, 1),
    "gru": layers(GRU, 64, 103, 2),
    "rnn": layers(RNN, 64, 186, 2),
}
"""Models of the tasks. Layers have about as many parameters as two sLSTM blocks."""

POINT_MODELS = {"mlstm": blocks(64, [], 2, 4)}
"""Models that differ for points. An mLSTM with four heads can forget at four different rates."""

ABLATION: dict[str, Body] = {
    "layers": layers(LSTM, 117, 117, 4),
    "residual": residual(117, None, 4),
    "up-projection": residual(96, 128, 4),
    "exponential-gating": blocks(128, [0, 1, 2, 3], 4, 4),
    "matrix-memory": blocks(128, [1], 4, 4),
}
"""Models of the ablation: each changes the previous one, with about as many parameters."""

FIXED_GATES = {
    "fixed-gates": ("igate", "fgate"),
    "fixed-input-gate": ("igate",),
    "fixed-forget-gate": ("fgate",),
    "forget-bias": ("igate", "fgate.weight"),
    "gate-biases": ("igate.weight", "fgate.weight"),
    "input-bias": ("igate.weight",),
}
"""Models with matrix memory, and the parameters of their gates that are not trained."""

ABLATION |= dict.fromkeys(FIXED_GATES, ABLATION["matrix-memory"])
HEADS = {f"keys-{keys}": head(keys) for keys in (2, 4, 8, 16)}
"""Models of the capacity of a head, by the width of its keys."""


class SmallModel(LanguageModel):
    """A model of an experiment, which a checkpoint builds again from its name and vocabulary.

    Embedding and head are those of the official model if the body is a stack of blocks, and as in
    PyTorch if it is made of layers. Without a vocabulary, the inputs are points with values,
    (B, T, 3), the outputs are values, (B, T, 1), and a linear map takes the place of the embedding.
    Parameters whose names contain one of ``fixed`` are not trained: weights of gates stay 0.
    """

    def __init__(self, name: str, vocabulary: int | None, body: Recurrent, **known: Any) -> None:
        width, official = body.in_features, isinstance(body, BlockStack)
        start = small_init(width) if official and vocabulary is not None else None
        self.name, self.vocabulary, self.fixed = name, vocabulary, FIXED_GATES.get(name, ())
        options = {"head_bias": not official, "deviation": start} | known
        super().__init__(vocabulary or 1, width, body, **options)

    def make_embedding(self, V: int, D: int, **options: Any) -> Any:
        """Make the embedding, or a linear map of points with values."""
        if self.vocabulary is not None:
            return super().make_embedding(V, D, **options)
        return Linear(POINT, D, dtype=options["dtype"], rng=options["rng"])

    def check_input(self, tokens: Any) -> None:
        """Raise an error unless the inputs are a batch of sequences of tokens or points."""
        if self.vocabulary is not None:
            super().check_input(tokens)
            return
        check_array("inputs", tokens, ("batch", "time", POINT), self.dtype)
        check_batch("inputs", tokens)

    def compute_backward(  # type: ignore[override]
        self, dy: Any, cache: Any, dstate: Any
    ) -> tuple[None, Any, Grads]:
        """Compute the backward without checks."""
        _, dstate0, grads = super().compute_backward(dy, cache, dstate)
        for name, grad in grads.items():
            if any(f".mlstm_cell.{part}" in name for part in self.fixed):
                grad[...] = 0
        return None, dstate0, grads


def build_model(
    name: str,
    vocabulary: int | None,
    *,
    dtype: npt.DTypeLike = np.float32,
    rng: np.random.Generator | None = None,
) -> SmallModel:
    """Build a model by its name in ``TASK_MODELS``, to which you may add, or another table.

    Parameters
    ----------
    name : str
        The name.
    vocabulary : int or None
        Number of ids; None for a model of points.
    dtype : dtype, default float32
        As in :class:`~numpy_xlstm.Linear`.
    rng : np.random.Generator, optional
        Generator for the initial parameters; a new, unseeded one if omitted.

    Examples
    --------
    >>> [build_model(name, 3).num_parameters for name in ("slstm", "mlstm", "lstm")]
    [116672, 56132, 117323]
    """
    bodies = TASK_MODELS | (POINT_MODELS if vocabulary is None else ABLATION | HEADS)
    body = bodies[checked_choice("model, given by --model or in TASK_MODELS", name, bodies)]
    rng = np.random.default_rng() if rng is None else rng
    return SmallModel(name, vocabulary, body(dtype=dtype, rng=rng), rng=rng)


@dataclass(frozen=True)
class SmallDescription(Config):
    """Description of a small model in a checkpoint."""

    name: str
    vocabulary: Count | None


KINDS["SmallModel"] = Kind(
    lambda model: {"name": model.name, "vocabulary": model.vocabulary},
    lambda config, rng: build_model(
        **SmallDescription.read("config", config).to_dict(), dtype=np.float64, rng=rng
    ),
)
