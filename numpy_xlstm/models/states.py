"""States of blocks: what the convolution has seen last, beside the state of the memory."""

from typing import NamedTuple

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.cells.slstm import sLSTMState
from numpy_xlstm.numerics import Array


class mLSTMBlockState(NamedTuple):
    """State of an mLSTM block, or the cotangent of one."""

    conv: Array
    """The last inputs of the convolution, (B, K − 1, inner width)."""
    mlstm: mLSTMState


class sLSTMBlockState(NamedTuple):
    """State of an sLSTM block, or the cotangent of one."""

    conv: Array | None
    """The last inputs of the convolution, (B, K − 1, D); None without one."""
    slstm: sLSTMState
