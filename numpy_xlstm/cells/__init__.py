"""The specification: one file for each cell, with one step forward and backward.

The step comes first in a file; how a cell is made, and its state, follow.
"""

from types import ModuleType as _ModuleType

from numpy_xlstm.cells.elman import ElmanCell as ElmanCell
from numpy_xlstm.cells.elman import ElmanState as ElmanState
from numpy_xlstm.cells.gates import gate_rows as gate_rows
from numpy_xlstm.cells.gru import GRUCell as GRUCell
from numpy_xlstm.cells.gru import GRUState as GRUState
from numpy_xlstm.cells.gru_original import OriginalGRUCell as OriginalGRUCell
from numpy_xlstm.cells.lstm import LSTMCell as LSTMCell
from numpy_xlstm.cells.lstm import LSTMState as LSTMState
from numpy_xlstm.cells.lstmp import LSTMPCell as LSTMPCell
from numpy_xlstm.cells.mlstm import mLSTMCell as mLSTMCell
from numpy_xlstm.cells.mlstm import mLSTMState as mLSTMState
from numpy_xlstm.cells.peephole import PeepholeLSTMCell as PeepholeLSTMCell
from numpy_xlstm.cells.slstm import sLSTMCell as sLSTMCell
from numpy_xlstm.cells.slstm import sLSTMState as sLSTMState

__all__ = [n for n, v in vars().items() if not (n[0] == "_" or isinstance(v, _ModuleType))]
