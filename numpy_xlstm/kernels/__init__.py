"""Fast forward and backward over whole sequences; tests compare each with its cell."""

from numpy_xlstm.kernels.functions import compiled as compiled
from numpy_xlstm.kernels.lstm import lstm_recurrent as lstm_recurrent
from numpy_xlstm.kernels.lstm import lstm_recurrent_backward as lstm_recurrent_backward
from numpy_xlstm.kernels.slstm import slstm_recurrent as slstm_recurrent
from numpy_xlstm.kernels.slstm import slstm_recurrent_backward as slstm_recurrent_backward
