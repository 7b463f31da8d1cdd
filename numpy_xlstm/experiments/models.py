"""The models of the experiments: two blocks or layers between the inputs and a linear head."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm import models
from numpy_xlstm.checkpoints.kinds import KINDS, Kind
from numpy_xlstm.checkpoints.metadata import choice, record
from numpy_xlstm.layers import GRU, LSTM, RNN, Linear, Recurrent
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.numerics import check_array, check_batch, check_choice

WIDTH = 64
"""Width of the blocks, and of the embedding."""

POINT = 3
"""Width of the input of a :class:`PointModel`: a point in the plane, and its value."""

RNNS: dict[str, tuple[Callable[..., Any], int]] = {
    "lstm": (LSTM, 88),
    "gru": (GRU, 103),
    "rnn": (RNN, 186),
}
"""Layers as in PyTorch, and the width at which two have as many parameters as two sLSTM blocks."""

SLSTM_AT: dict[str, list[int]] = {"slstm": [0, 1], "mlstm": [], "xlstm": [1]}
MODELS = (*RNNS, *SLSTM_AT)
"""Models of the tasks."""


class PointModel(LanguageModel):
    """A model of points (B, T, 3), each with its value, whose outputs are values (B, T, 1).

    It is a language model in which a linear map takes the place of the embedding.
    """

    def __init__(self, body: Recurrent, kind: str, rng: np.random.Generator | None) -> None:
        super().__init__(1, body.in_features, body, rng=rng)
        self.kind = kind
        self.embedding: Any = Linear(POINT, body.in_features, dtype=body.dtype, rng=rng)

    def check_input(self, tokens: Any) -> None:
        """Raise an error unless the inputs are a batch of sequences of points."""
        check_array("inputs", tokens, ("batch", "time", POINT), self.dtype)
        check_batch("inputs", tokens)


def build_model(
    kind: str,
    vocabulary: int | None,
    *,
    dtype: npt.DTypeLike = np.float32,
    rng: np.random.Generator | None = None,
) -> LanguageModel:
    """Build a model of ids, or one of points and values if there is no vocabulary.

    Parameters
    ----------
    kind : str
        "slstm", "mlstm" or "xlstm", the official model of two sLSTM blocks, two mLSTM blocks, or
        one of each, with one head; or "lstm", "gru" or "rnn", two layers as in PyTorch, between
        embedding and head. They have about as many parameters as two sLSTM blocks.
    vocabulary : int or None
        Number of ids; None for a :class:`PointModel`.
    dtype, rng
        As in :class:`~numpy_xlstm.Linear`.

    Examples
    --------
    >>> {kind: build_model(kind, 3).num_parameters for kind in MODELS}
    """
    check_choice("model", kind, MODELS)
    known: Any = {"dtype": dtype, "rng": rng}
    if kind in SLSTM_AT:
        sizes: Any = {
            "mlstm_block": models.mLSTMBlockConfig(models.mLSTMLayerConfig(num_heads=1)),
            "slstm_block": models.sLSTMBlockConfig(models.sLSTMLayerConfig(num_heads=1)),
            "num_blocks": 2,
            "embedding_dim": WIDTH,
            "slstm_at": SLSTM_AT[kind],
        }
        if vocabulary:
            config = models.xLSTMLMModelConfig(vocab_size=vocabulary, **sizes)
            return models.xLSTMLMModel(config, **known)
        body: Any = models.xLSTMBlockStack(models.xLSTMBlockStackConfig(**sizes), **known)
    else:
        layer, hidden = RNNS[kind]
        body = layer(WIDTH, hidden, num_layers=2, **known)
    if vocabulary:
        return LanguageModel(vocabulary, WIDTH, body, rng=rng)
    return PointModel(body, kind, rng)


KINDS["PointModel"] = Kind(
    lambda model: {"kind": model.kind},
    lambda config, rng: build_model(config["kind"], None, dtype=np.float64, rng=rng),
    record({"kind": choice(MODELS)}),
)
"""Checkpoints build the model again from its kind."""
