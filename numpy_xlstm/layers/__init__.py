"""Layers: cells over sequences, stateless maps and losses."""

from types import ModuleType as _ModuleType

from numpy_xlstm.layers.activations import ACTIVATIONS as ACTIVATIONS
from numpy_xlstm.layers.activations import Activation as Activation
from numpy_xlstm.layers.activations import Dropout as Dropout
from numpy_xlstm.layers.activations import SoftCap as SoftCap
from numpy_xlstm.layers.base import Layer as Layer
from numpy_xlstm.layers.base import LayerCache as LayerCache
from numpy_xlstm.layers.base import Recurrent as Recurrent
from numpy_xlstm.layers.conv import CausalConv1d as CausalConv1d
from numpy_xlstm.layers.embedding import Embedding as Embedding
from numpy_xlstm.layers.feedforward import GatedFeedForward as GatedFeedForward
from numpy_xlstm.layers.linear import HeadwiseLinear as HeadwiseLinear
from numpy_xlstm.layers.linear import Linear as Linear
from numpy_xlstm.layers.linear import LinearGroup as LinearGroup
from numpy_xlstm.layers.loss import softmax_cross_entropy as softmax_cross_entropy
from numpy_xlstm.layers.loss import softmax_cross_entropy_backward as softmax_cross_entropy_backward
from numpy_xlstm.layers.norms import LayerNorm as LayerNorm
from numpy_xlstm.layers.norms import MultiHeadLayerNorm as MultiHeadLayerNorm
from numpy_xlstm.layers.norms import MultiHeadRMSNorm as MultiHeadRMSNorm
from numpy_xlstm.layers.norms import RMSNorm as RMSNorm
from numpy_xlstm.layers.rnn import GRU as GRU
from numpy_xlstm.layers.rnn import LSTM as LSTM
from numpy_xlstm.layers.rnn import RNN as RNN
from numpy_xlstm.layers.sequence import SequenceLayer as SequenceLayer
from numpy_xlstm.layers.stacked import Stacked as Stacked
from numpy_xlstm.layers.stacked import stack_layers as stack_layers
from numpy_xlstm.layers.xlstm import mLSTM as mLSTM
from numpy_xlstm.layers.xlstm import sLSTM as sLSTM

__all__ = [n for n, v in vars().items() if not (n[0] == "_" or isinstance(v, _ModuleType))]
