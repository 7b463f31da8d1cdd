"""The exact, framework-free reference for the LSTM family, in plain NumPy.

Every recurrence is a pair of pure functions: a forward that returns outputs and a cache, and a
hand-derived backward that is its exact vector-Jacobian product.
"""

from numpy_xlstm._version import __version__
from numpy_xlstm.cells import (
    LSTM,
    LSTMCell,
    LSTMState,
    mLSTM,
    mlstm_chunkwise,
    mlstm_chunkwise_backward,
    mlstm_parallel,
    mlstm_parallel_backward,
    mlstm_recurrent,
    mlstm_recurrent_backward,
    mLSTMCell,
    mLSTMState,
    sLSTM,
    sLSTMCell,
    sLSTMState,
)
from numpy_xlstm.gradcheck import gradcheck
from numpy_xlstm.layers import (
    Embedding,
    Linear,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.training import AdamW, clip_grad_norm

__all__ = [
    "LSTM",
    "AdamW",
    "Embedding",
    "LSTMCell",
    "LSTMState",
    "LanguageModel",
    "Linear",
    "__version__",
    "clip_grad_norm",
    "gradcheck",
    "mLSTM",
    "mLSTMCell",
    "mLSTMState",
    "mlstm_chunkwise",
    "mlstm_chunkwise_backward",
    "mlstm_parallel",
    "mlstm_parallel_backward",
    "mlstm_recurrent",
    "mlstm_recurrent_backward",
    "sLSTM",
    "sLSTMCell",
    "sLSTMState",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]
