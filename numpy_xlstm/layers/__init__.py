"""Layers: cells over sequences, stateless maps and losses."""

from numpy_xlstm.layers.activations import (
    ACTIVATIONS,
    Activation,
    gelu,
    gelu_backward,
    gelu_tanh,
    gelu_tanh_backward,
    silu,
    silu_backward,
)
from numpy_xlstm.layers.base import Layer, LayerCache, Recurrent
from numpy_xlstm.layers.conv import CausalConv1d, CausalConv1dCache
from numpy_xlstm.layers.dropout import Dropout
from numpy_xlstm.layers.embedding import Embedding, EmbeddingCache
from numpy_xlstm.layers.feedforward import FeedForwardCache, GatedFeedForward
from numpy_xlstm.layers.linear import (
    HeadwiseLinear,
    HeadwiseLinearCache,
    Linear,
    LinearCache,
    LinearGroup,
)
from numpy_xlstm.layers.loss import (
    SoftmaxCrossEntropyCache,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)
from numpy_xlstm.layers.lstm import LSTMSequence
from numpy_xlstm.layers.mlstm import mLSTM
from numpy_xlstm.layers.norms import (
    LayerNorm,
    MultiHeadLayerNorm,
    MultiHeadRMSNorm,
    NormCache,
    RMSNorm,
)
from numpy_xlstm.layers.rnn import GRU, LSTM, RNN
from numpy_xlstm.layers.sequence import SequenceLayer
from numpy_xlstm.layers.slstm import sLSTM
from numpy_xlstm.layers.soft_cap import soft_cap, soft_cap_backward
from numpy_xlstm.layers.stacked import Stacked, stack_layers

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "CausalConv1d",
    "CausalConv1dCache",
    "Dropout",
    "Embedding",
    "EmbeddingCache",
    "FeedForwardCache",
    "GatedFeedForward",
    "HeadwiseLinear",
    "HeadwiseLinearCache",
    "LSTMSequence",
    "Layer",
    "LayerCache",
    "LayerNorm",
    "Linear",
    "LinearCache",
    "LinearGroup",
    "MultiHeadLayerNorm",
    "MultiHeadRMSNorm",
    "NormCache",
    "RMSNorm",
    "Recurrent",
    "SequenceLayer",
    "SoftmaxCrossEntropyCache",
    "Stacked",
    "gelu",
    "gelu_backward",
    "gelu_tanh",
    "gelu_tanh_backward",
    "mLSTM",
    "sLSTM",
    "silu",
    "silu_backward",
    "soft_cap",
    "soft_cap_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "stack_layers",
]
