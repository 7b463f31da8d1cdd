"""Checkpoints: a model with its configuration and all that goes with it, in one file."""

from numpy_xlstm.checkpoints.files import read_arrays, write_arrays
from numpy_xlstm.checkpoints.model import KINDS, Checkpoint, Kind, load_checkpoint, save_checkpoint

__all__ = [
    "KINDS",
    "Checkpoint",
    "Kind",
    "load_checkpoint",
    "read_arrays",
    "save_checkpoint",
    "write_arrays",
]
