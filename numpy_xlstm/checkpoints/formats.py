"""The registry of checkpoint formats.

The order matters twice: a checkpoint has the first format that recognises it, and a model is saved
to a folder in the first format that supports it.
"""

from numpy_xlstm.checkpoints.onnx import ONNX
from numpy_xlstm.checkpoints.own import SAFETENSORS
from numpy_xlstm.checkpoints.torch_layers import TORCH
from numpy_xlstm.checkpoints.transformers import TRANSFORMERS
from numpy_xlstm.checkpoints.xlstm_package import XLSTM, XLSTM_LARGE

FORMATS = {form.name: form for form in (SAFETENSORS, ONNX, TORCH, TRANSFORMERS, XLSTM, XLSTM_LARGE)}
