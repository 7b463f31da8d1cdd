"""The specification: one file for each cell, with one step forward and backward."""

from numpy_xlstm.cells.elman import ElmanCell, ElmanState
from numpy_xlstm.cells.gates import gate_rows
from numpy_xlstm.cells.gru import GRUCell, GRUState
from numpy_xlstm.cells.gru_original import OriginalGRUCell
from numpy_xlstm.cells.lstm import LSTMCell, LSTMState
from numpy_xlstm.cells.lstmp import LSTMPCell
from numpy_xlstm.cells.mlstm import mLSTMCell, mLSTMState
from numpy_xlstm.cells.peephole import PeepholeLSTMCell
from numpy_xlstm.cells.slstm import sLSTMCell, sLSTMState
from numpy_xlstm.cells.unroll import unroll, unroll_backward

__all__ = [
    "ElmanCell",
    "ElmanState",
    "GRUCell",
    "GRUState",
    "LSTMCell",
    "LSTMPCell",
    "LSTMState",
    "OriginalGRUCell",
    "PeepholeLSTMCell",
    "gate_rows",
    "mLSTMCell",
    "mLSTMState",
    "sLSTMCell",
    "sLSTMState",
    "unroll",
    "unroll_backward",
]
