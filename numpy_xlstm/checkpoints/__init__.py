"""Checkpoints of this package, and conversion from and to those of the official packages."""

from numpy_xlstm.checkpoints.description import Format as Format
from numpy_xlstm.checkpoints.description import Pretrained as Pretrained
from numpy_xlstm.checkpoints.files import read_arrays as read_arrays
from numpy_xlstm.checkpoints.files import write_arrays as write_arrays
from numpy_xlstm.checkpoints.own import KINDS as KINDS
from numpy_xlstm.checkpoints.own import Kind as Kind
from numpy_xlstm.checkpoints.pretrained import FORMATS as FORMATS
from numpy_xlstm.checkpoints.pretrained import from_pretrained as from_pretrained
from numpy_xlstm.checkpoints.pretrained import open_pretrained as open_pretrained
from numpy_xlstm.checkpoints.pretrained import save_pretrained as save_pretrained
