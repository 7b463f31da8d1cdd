"""The specification."""
from numpy_xlstm.spec.lstm import LSTMCell, LSTMState
from numpy_xlstm.spec.slstm import sLSTMCell, sLSTMState
from numpy_xlstm.spec.mlstm import mLSTMCell, mLSTMState
from numpy_xlstm.spec.unroll import unroll, unroll_backward
