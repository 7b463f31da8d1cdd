"""Rules that select the parameters with weight decay, and the rule of each kind of model."""

from collections.abc import Callable
from typing import Any

from numpy_xlstm.models import xLSTMLarge, xLSTMLMModel
from numpy_xlstm.numerics import Array, check_bool

DecayRule = Callable[[str, Array], bool]
"""Function of name and array that returns whether a parameter decays."""


def is_matrix(name: str, array: Array) -> bool:
    """Return whether ``array`` has two or more axes: weights decay, biases do not."""
    return array.ndim >= 2


def official_decay(weight_decay_on_embedding: bool = False) -> DecayRule:
    """Return the rule of the official xLSTM training, which depends on names only.

    Parameters with "weight" but not "norm" in their names decay. The table of token vectors,
    ``token_embedding.weight`` or ``embedding.weight``, decays only if
    ``weight_decay_on_embedding``.

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
    """Return the decay rule of a model, for new and for resumed trainings.

    It is :func:`official_decay` for an xLSTM model, with the ``weight_decay_on_embedding`` of its
    configuration if that has one, and :func:`is_matrix` for any other model.
    """
    if isinstance(model, xLSTMLMModel):
        return official_decay(model.config.weight_decay_on_embedding)
    if isinstance(model, xLSTMLarge):
        return official_decay()
    return is_matrix
