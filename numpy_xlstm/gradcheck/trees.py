"""Another name of :mod:`numpy_xlstm.trees`."""

from numpy_xlstm.trees import leaves, rebuild

__all__ = ["leaves", "rebuild"]
