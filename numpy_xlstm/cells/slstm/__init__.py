"""sLSTM: the pointwise equations, the step, the sequence, the recurrence alone."""

from numpy_xlstm.cells.slstm.layer import sLSTM, sLSTMCell
from numpy_xlstm.cells.slstm.recurrent import slstm_recurrent, slstm_recurrent_backward

__all__ = ["sLSTM", "sLSTMCell", "slstm_recurrent", "slstm_recurrent_backward"]
