"""LSTM: the pointwise equations, the step, the sequence, the recurrence alone."""

from numpy_xlstm.cells.lstm.layer import LSTM, LSTMCell
from numpy_xlstm.cells.lstm.recurrent import lstm_recurrent, lstm_recurrent_backward

__all__ = ["LSTM", "LSTMCell", "lstm_recurrent", "lstm_recurrent_backward"]
