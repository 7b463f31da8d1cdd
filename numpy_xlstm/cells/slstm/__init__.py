"""sLSTM: the pointwise equations, the step, the sequence."""

from numpy_xlstm.cells.slstm.layer import sLSTM, sLSTMCell

__all__ = ["sLSTM", "sLSTMCell"]
