"""Experiments of the xLSTM paper, small enough for a laptop.

Checkpoints of their models can be loaded when this package is imported.
"""

from numpy_xlstm.experiments.small_models import build_model

__all__ = ["build_model"]
