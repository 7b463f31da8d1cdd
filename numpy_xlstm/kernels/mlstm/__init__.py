"""mLSTM over whole sequences: one function of q, k, v and gates, in three forms."""

from numpy_xlstm.kernels.mlstm.chunkwise import (
    CHUNK_SIZE,
    mlstm_chunkwise,
    mlstm_chunkwise_backward,
)
from numpy_xlstm.kernels.mlstm.form import FORMS, backward, forward
from numpy_xlstm.kernels.mlstm.parallel import mlstm_parallel, mlstm_parallel_backward
from numpy_xlstm.kernels.mlstm.recurrent import mlstm_recurrent, mlstm_recurrent_backward
from numpy_xlstm.kernels.mlstm.shared import Cache

__all__ = [
    "CHUNK_SIZE",
    "FORMS",
    "Cache",
    "backward",
    "forward",
    "mlstm_chunkwise",
    "mlstm_chunkwise_backward",
    "mlstm_parallel",
    "mlstm_parallel_backward",
    "mlstm_recurrent",
    "mlstm_recurrent_backward",
]
