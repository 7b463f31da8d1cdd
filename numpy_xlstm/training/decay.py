"""Which parameters decay: the rules, and the rule of each kind of model."""

from collections.abc import Callable
from typing import Any

from numpy_xlstm.models import xLSTMLarge, xLSTMLMModel
from numpy_xlstm.numerics import Array

DecayRule = Callable[[str, Array], bool]
"""Says by name and array whether a parameter decays."""

EMBEDDINGS = ("token_embedding.weight", "embedding.weight")
"""What the models call their table of token vectors."""


def is_matrix(name: str, array: Array) -> bool:
    """Weights decay and biases do not: whether ``array`` has two axes or more."""
    return array.ndim >= 2


def official_decay(weight_decay_on_embedding: bool = False) -> DecayRule:
    """Return the rule of the official xLSTM training: by name, whatever the shape.

    What has "weight" in its name decays, but not if it has "norm" in it too, and not if it is the
    table of token vectors, ``token_embedding.weight`` or ``embedding.weight``.

    Parameters
    ----------
    weight_decay_on_embedding : bool
        Whether the table of token vectors decays too.

    Examples
    --------
    >>> import numpy as np
    >>> decays, array = official_decay(), np.ones((2, 2))
    >>> [decays(name, array) for name in ("head.weight", "norm.weight", "embedding.weight")]
    [True, False, False]
    """

    def decays(name: str, array: Array) -> bool:
        if name in EMBEDDINGS:
            return weight_decay_on_embedding
        return "weight" in name and "norm" not in name

    return decays


def decay_rule(model: Any) -> DecayRule:
    """Return the rule that a model is trained with, when it begins and when it goes on.

    An xLSTM model has that of the official training; for :class:`~numpy_xlstm.xLSTMLMModel` the
    field ``weight_decay_on_embedding`` of its configuration counts. Any other has
    :func:`is_matrix`.

    Examples
    --------
    >>> from numpy_xlstm import LSTM, LanguageModel
    >>> decay_rule(LanguageModel(10, 4, LSTM(4, 8))) is is_matrix
    True
    """
    if isinstance(model, xLSTMLMModel):
        return official_decay(model.config.weight_decay_on_embedding)
    if isinstance(model, xLSTMLarge):
        return official_decay()
    return is_matrix
