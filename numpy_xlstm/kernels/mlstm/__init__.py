"""mLSTM over whole sequences of q, k, v and gates, in three forms with the same result."""

from numpy_xlstm.kernels.mlstm.public import (
    mlstm_chunkwise,
    mlstm_chunkwise_backward,
    mlstm_parallel,
    mlstm_parallel_backward,
    mlstm_recurrent,
    mlstm_recurrent_backward,
)

__all__ = [
    "mlstm_chunkwise",
    "mlstm_chunkwise_backward",
    "mlstm_parallel",
    "mlstm_parallel_backward",
    "mlstm_recurrent",
    "mlstm_recurrent_backward",
]
