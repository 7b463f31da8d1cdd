"""What weight decay applies to: rules by name and shape, and that of each kind of model."""

from collections.abc import Callable
from typing import Any

from numpy_xlstm.models import xLSTMLarge, xLSTMLMModel
from numpy_xlstm.numerics import Array, check_bool

DecayRule = Callable[[str, Array], bool]
"""Says by name and array whether a parameter decays."""


def is_matrix(name: str, array: Array) -> bool:
    """Weights decay and biases do not: whether ``array`` has two axes or more."""
    return array.ndim >= 2


def official_decay(weight_decay_on_embedding: bool = False) -> DecayRule:
    """Return the rule of the official xLSTM training: by name, whatever the shape.

    What has "weight" in its name decays, but not if it has "norm" in it too. The table of token
    vectors, ``token_embedding.weight`` or ``embedding.weight``, decays only if that is asked for.

    Examples
    --------
    >>> import numpy as np
    >>> decays, array = official_decay(), np.ones((2, 2))
    >>> [decays(name, array) for name in ("head.weight", "norm.weight", "embedding.weight")]
    [True, False, False]
    """
    check_bool("weight_decay_on_embedding", weight_decay_on_embedding)

    def decays(name: str, array: Array) -> bool:
        if name in ("token_embedding.weight", "embedding.weight"):
            return weight_decay_on_embedding
        return "weight" in name and "norm" not in name

    return decays


def decay_rule(model: Any) -> DecayRule:
    """Return the rule that a model is trained with, when it begins and when it goes on.

    An xLSTM model has :func:`official_decay`, with the ``weight_decay_on_embedding`` of its
    configuration if that has one. Any other has :func:`is_matrix`.
    """
    if isinstance(model, xLSTMLMModel):
        return official_decay(model.config.weight_decay_on_embedding)
    if isinstance(model, xLSTMLarge):
        return official_decay()
    return is_matrix
