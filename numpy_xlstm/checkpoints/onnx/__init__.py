"""Export of models to ONNX. Only writing needs ``onnx``, which the extra ``cli`` installs."""

from numpy_xlstm.checkpoints.onnx.export import ONNX, to_onnx

__all__ = ["ONNX", "to_onnx"]
