"""Engines for operators of ONNX: OpenVINO, OpenCV and ONNX Runtime for browsers, by Node."""

from collections.abc import Callable
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from tests.conformance.implementations import onnx_operators
from tests.conformance.implementations.onnx_operators import Operator, model_of, outputs
from tests.outside.node import program
from tests.outside.shared import Arrays, outside


def openvino(op: Operator) -> Arrays:
    import openvino

    model = openvino.Core().read_model(model_of(op, constant=True).SerializeToString())
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(op.inputs["X"].copy())
    return {name: results[name] for name in outputs(op)}


def opencv(op: Operator) -> Arrays:
    import cv2

    zeros = np.zeros((1, op.inputs["X"].shape[1], op.attributes["hidden_size"]), "f")
    start = {name.replace("Y_", "initial_"): zeros for name in outputs(op)[1:]}  # not optional
    model = model_of(op._replace(inputs=start | dict(op.inputs)), constant=True)
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
    net.setInput(op.inputs["X"].copy(), "X")
    return dict(zip(outputs(op), map(np.array, net.forward(outputs(op))), strict=True))


def ort_web(op: Operator) -> Arrays:
    with NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model_of(op, constant=True).SerializeToString())
        file.flush()
        found = program("ort_web.js", {"X": op.inputs["X"]}, file.name)
    T, B, _ = op.inputs["X"].shape
    return {n: a.reshape((T, 1, B, -1) if n == "Y" else (1, B, -1)) for n, a in found.items()}


def engine(requires: str, run: Callable[[Operator], Arrays], functions: str) -> list[Any]:
    """Make forwards of operators in float32."""
    port = lambda _, case: onnx_operators.port(run, case)  # noqa: E731
    more: Any = {"gradients": False, "dtype": "float32"}
    return outside(f"{requires} onnx", port, functions, "no step", **more)


LSTMS, GRUS = "LSTM lstm, LSTM peephole", "GRU gru, GRU original-gru"
IMPLEMENTATIONS = [
    *engine("openvino>=2026.2,<2027", openvino, f"{LSTMS}, {GRUS}, RNN elman"),
    *engine("opencv-python-headless>=5,<6", opencv, f"{LSTMS}, {GRUS}"),
    *engine("onnxruntime-web@1.30", ort_web, f"LSTM lstm, {GRUS}, RNN elman"),
]
