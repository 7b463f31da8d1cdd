"""mLSTM: one file per form, each with forward and backward, and the layer made of them."""

from numpy_xlstm.cells.mlstm.layer import mLSTM, mLSTMCell
from numpy_xlstm.cells.mlstm.recurrent import mlstm_recurrent, mlstm_recurrent_backward

__all__ = ["mLSTM", "mLSTMCell", "mlstm_recurrent", "mlstm_recurrent_backward"]
