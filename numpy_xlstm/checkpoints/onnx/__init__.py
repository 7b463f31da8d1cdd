"""Export of models to ONNX. Only writing needs the package ``onnx``, the extra of that name."""

from numpy_xlstm.checkpoints.onnx.export import ONNX, to_onnx

__all__ = ["ONNX", "to_onnx"]
