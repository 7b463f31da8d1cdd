"""LSTM: the pointwise equations, the step, the sequence."""

from numpy_xlstm.cells.lstm.layer import LSTM, LSTMCell

__all__ = ["LSTM", "LSTMCell"]
