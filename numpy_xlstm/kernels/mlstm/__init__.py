"""mLSTM over whole sequences of q, k, v and gates, in three forms with the same result."""

from numpy_xlstm.kernels.mlstm.public import mlstm_chunkwise as mlstm_chunkwise
from numpy_xlstm.kernels.mlstm.public import mlstm_chunkwise_backward as mlstm_chunkwise_backward
from numpy_xlstm.kernels.mlstm.public import mlstm_parallel as mlstm_parallel
from numpy_xlstm.kernels.mlstm.public import mlstm_parallel_backward as mlstm_parallel_backward
from numpy_xlstm.kernels.mlstm.public import mlstm_recurrent as mlstm_recurrent
from numpy_xlstm.kernels.mlstm.public import mlstm_recurrent_backward as mlstm_recurrent_backward
