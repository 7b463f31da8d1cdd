"""The recurrences: one folder each, forward and backward next to each other."""

from numpy_xlstm.cells.lstm import LSTM, LSTMCell, lstm_recurrent, lstm_recurrent_backward
from numpy_xlstm.cells.mlstm import (
    mLSTM,
    mlstm_chunkwise,
    mlstm_chunkwise_backward,
    mlstm_parallel,
    mlstm_parallel_backward,
    mlstm_recurrent,
    mlstm_recurrent_backward,
    mLSTMCell,
)
from numpy_xlstm.cells.slstm import (
    sLSTM,
    slstm_recurrent,
    slstm_recurrent_backward,
    sLSTMCell,
)
from numpy_xlstm.cells.states import LSTMState, mLSTMState, sLSTMState

__all__ = [
    "LSTM",
    "LSTMCell",
    "LSTMState",
    "lstm_recurrent",
    "lstm_recurrent_backward",
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
    "slstm_recurrent",
    "slstm_recurrent_backward",
]
