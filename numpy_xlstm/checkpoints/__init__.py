"""Checkpoints of this package, and conversion from and to those of the official packages."""

from numpy_xlstm.checkpoints.description import Format, Pretrained
from numpy_xlstm.checkpoints.files import read_arrays, write_arrays
from numpy_xlstm.checkpoints.formats import FORMATS
from numpy_xlstm.checkpoints.kinds import KINDS, Kind
from numpy_xlstm.checkpoints.model import Checkpoint, load_checkpoint, save_checkpoint
from numpy_xlstm.checkpoints.pretrained import from_pretrained, open_pretrained
from numpy_xlstm.checkpoints.saving import save_pretrained
from numpy_xlstm.checkpoints.states import from_official_state, to_official_state

__all__ = [
    "FORMATS",
    "KINDS",
    "Checkpoint",
    "Format",
    "Kind",
    "Pretrained",
    "from_official_state",
    "from_pretrained",
    "load_checkpoint",
    "open_pretrained",
    "read_arrays",
    "save_checkpoint",
    "save_pretrained",
    "to_official_state",
    "write_arrays",
]
