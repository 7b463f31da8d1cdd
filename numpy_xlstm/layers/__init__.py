"""Stateless layers and losses: ``y, cache = forward(x)``, ``dx, grads = backward(dy, cache)``."""

from numpy_xlstm.layers.embedding import Embedding, EmbeddingCache
from numpy_xlstm.layers.linear import Linear, LinearCache
from numpy_xlstm.layers.loss import (
    SoftmaxCrossEntropyCache,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)

__all__ = [
    "Embedding",
    "EmbeddingCache",
    "Linear",
    "LinearCache",
    "SoftmaxCrossEntropyCache",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]
