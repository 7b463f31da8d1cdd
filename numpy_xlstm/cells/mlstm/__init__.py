"""mLSTM: one file per form, each with forward and backward, and the layer made of them."""

from numpy_xlstm.cells.mlstm.chunkwise import mlstm_chunkwise, mlstm_chunkwise_backward
from numpy_xlstm.cells.mlstm.layer import mLSTM, mLSTMCell
from numpy_xlstm.cells.mlstm.parallel import mlstm_parallel, mlstm_parallel_backward
from numpy_xlstm.cells.mlstm.recurrent import mlstm_recurrent, mlstm_recurrent_backward

__all__ = [
    "mLSTM",
    "mLSTMCell",
    "mlstm_chunkwise",
    "mlstm_chunkwise_backward",
    "mlstm_parallel",
    "mlstm_parallel_backward",
    "mlstm_recurrent",
    "mlstm_recurrent_backward",
]
