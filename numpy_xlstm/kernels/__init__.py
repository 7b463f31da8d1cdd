"""Fast forward and backward over whole sequences; tests compare each with its cell."""

from numpy_xlstm.kernels.functions import compiled
from numpy_xlstm.kernels.lstm import lstm_recurrent, lstm_recurrent_backward
from numpy_xlstm.kernels.slstm import slstm_recurrent, slstm_recurrent_backward

__all__ = [
    "compiled",
    "lstm_recurrent",
    "lstm_recurrent_backward",
    "slstm_recurrent",
    "slstm_recurrent_backward",
]
