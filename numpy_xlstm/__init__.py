"""The exact, framework-free reference for the LSTM family, in plain NumPy.

Every recurrence is a pair of pure functions: a forward that returns outputs and a cache, and a
hand-derived backward that is its exact vector-Jacobian product.
"""

from sys import _getframe
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

from numpy_xlstm._version import __version__ as __version__
from numpy_xlstm.cells import ElmanCell as ElmanCell
from numpy_xlstm.cells import GRUCell as GRUCell
from numpy_xlstm.cells import LSTMCell as LSTMCell
from numpy_xlstm.cells import LSTMPCell as LSTMPCell
from numpy_xlstm.cells import LSTMState as LSTMState
from numpy_xlstm.cells import OriginalGRUCell as OriginalGRUCell
from numpy_xlstm.cells import PeepholeLSTMCell as PeepholeLSTMCell
from numpy_xlstm.cells import gate_rows as gate_rows
from numpy_xlstm.cells import mLSTMCell as mLSTMCell
from numpy_xlstm.cells import mLSTMState as mLSTMState
from numpy_xlstm.cells import sLSTMCell as sLSTMCell
from numpy_xlstm.cells import sLSTMState as sLSTMState
from numpy_xlstm.checkpoints import from_pretrained as from_pretrained
from numpy_xlstm.checkpoints import open_pretrained as open_pretrained
from numpy_xlstm.checkpoints import save_pretrained as save_pretrained
from numpy_xlstm.generation import ByteTokenizer as ByteTokenizer
from numpy_xlstm.generation import CharacterTokenizer as CharacterTokenizer
from numpy_xlstm.generation import GenerationConfig as GenerationConfig
from numpy_xlstm.generation import HuggingFaceTokenizer as HuggingFaceTokenizer
from numpy_xlstm.generation import generate as generate
from numpy_xlstm.generation import generate_text as generate_text
from numpy_xlstm.generation import stream as stream
from numpy_xlstm.gradcheck import gradcheck as gradcheck
from numpy_xlstm.kernels.lstm import lstm_recurrent as lstm_recurrent
from numpy_xlstm.kernels.lstm import lstm_recurrent_backward as lstm_recurrent_backward
from numpy_xlstm.kernels.mlstm import mlstm_chunkwise as mlstm_chunkwise
from numpy_xlstm.kernels.mlstm import mlstm_chunkwise_backward as mlstm_chunkwise_backward
from numpy_xlstm.kernels.mlstm import mlstm_parallel as mlstm_parallel
from numpy_xlstm.kernels.mlstm import mlstm_parallel_backward as mlstm_parallel_backward
from numpy_xlstm.kernels.mlstm import mlstm_recurrent as mlstm_recurrent
from numpy_xlstm.kernels.mlstm import mlstm_recurrent_backward as mlstm_recurrent_backward
from numpy_xlstm.kernels.slstm import slstm_recurrent as slstm_recurrent
from numpy_xlstm.kernels.slstm import slstm_recurrent_backward as slstm_recurrent_backward
from numpy_xlstm.layers import GRU as GRU
from numpy_xlstm.layers import LSTM as LSTM
from numpy_xlstm.layers import RNN as RNN
from numpy_xlstm.layers import Activation as Activation
from numpy_xlstm.layers import CausalConv1d as CausalConv1d
from numpy_xlstm.layers import Dropout as Dropout
from numpy_xlstm.layers import Embedding as Embedding
from numpy_xlstm.layers import GatedFeedForward as GatedFeedForward
from numpy_xlstm.layers import HeadwiseLinear as HeadwiseLinear
from numpy_xlstm.layers import LayerNorm as LayerNorm
from numpy_xlstm.layers import Linear as Linear
from numpy_xlstm.layers import MultiHeadLayerNorm as MultiHeadLayerNorm
from numpy_xlstm.layers import MultiHeadRMSNorm as MultiHeadRMSNorm
from numpy_xlstm.layers import RMSNorm as RMSNorm
from numpy_xlstm.layers import SequenceLayer as SequenceLayer
from numpy_xlstm.layers import SoftCap as SoftCap
from numpy_xlstm.layers import Stacked as Stacked
from numpy_xlstm.layers import mLSTM as mLSTM
from numpy_xlstm.layers import sLSTM as sLSTM
from numpy_xlstm.layers import softmax_cross_entropy as softmax_cross_entropy
from numpy_xlstm.layers import softmax_cross_entropy_backward as softmax_cross_entropy_backward
from numpy_xlstm.layers import stack_layers as stack_layers
from numpy_xlstm.models import FeedForwardConfig as FeedForwardConfig
from numpy_xlstm.models import LanguageModel as LanguageModel
from numpy_xlstm.models import SpecialTokens as SpecialTokens
from numpy_xlstm.models import mLSTMBlock as mLSTMBlock
from numpy_xlstm.models import mLSTMBlockConfig as mLSTMBlockConfig
from numpy_xlstm.models import mLSTMBlockState as mLSTMBlockState
from numpy_xlstm.models import mLSTMLayer as mLSTMLayer
from numpy_xlstm.models import mLSTMLayerConfig as mLSTMLayerConfig
from numpy_xlstm.models import sLSTMBlock as sLSTMBlock
from numpy_xlstm.models import sLSTMBlockConfig as sLSTMBlockConfig
from numpy_xlstm.models import sLSTMBlockState as sLSTMBlockState
from numpy_xlstm.models import sLSTMLayer as sLSTMLayer
from numpy_xlstm.models import sLSTMLayerConfig as sLSTMLayerConfig
from numpy_xlstm.models import with_weight_mode as with_weight_mode
from numpy_xlstm.models import xLSTMBlockStack as xLSTMBlockStack
from numpy_xlstm.models import xLSTMBlockStackConfig as xLSTMBlockStackConfig
from numpy_xlstm.models import xLSTMLarge as xLSTMLarge
from numpy_xlstm.models import xLSTMLargeBlock as xLSTMLargeBlock
from numpy_xlstm.models import xLSTMLargeConfig as xLSTMLargeConfig
from numpy_xlstm.models import xLSTMLMModel as xLSTMLMModel
from numpy_xlstm.models import xLSTMLMModelConfig as xLSTMLMModelConfig
from numpy_xlstm.module import Module as Module
from numpy_xlstm.torch_habits import SENTENCES as _SENTENCES
from numpy_xlstm.torch_habits import explained as _explained
from numpy_xlstm.training import AdamW as AdamW
from numpy_xlstm.training import TrainingState as TrainingState
from numpy_xlstm.training import clip_grad_norm as clip_grad_norm

__all__ = ["__version__"]
__all__ += [n for n, v in vars().items() if not (n[0] == "_" or isinstance(v, _ModuleType))]

if not _TYPE_CHECKING:  # a type checker would accept every name

    def __getattr__(name: str) -> object:
        """Raise the error for an unknown name."""
        message = _explained(f"module {__name__!r} has no attribute {name!r}", name, __all__)
        if name in _SENTENCES and _getframe(1).f_code.co_name == "_handle_fromlist":
            raise ImportError(message)  # from numpy_xlstm import …, whose own error says less
        raise AttributeError(message)
