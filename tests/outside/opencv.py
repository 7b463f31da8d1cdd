"""OpenCV: operators of ONNX. An absent state is an array of zeros."""

import numpy as np

from numpy_xlstm.numerics import Arrays
from tests.conformance.implementations.onnx_operators import Operator, model_of, outputs
from tests.outside.shared import operators

REQUIRES = "opencv-python-headless>=5,<6 onnx>=1.17,<2"


def run(op: Operator) -> Arrays:
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    zeros = np.zeros((1, op.inputs["X"].shape[1], op.attributes["hidden_size"]), "f")
    start = {f"initial_{s}": zeros for s in "hc"[: len(outputs(op)) - 1]}
    model = model_of(op._replace(inputs=start | dict(op.inputs)), constant=True)
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
    net.setInput(op.inputs["X"].copy(), "X")
    return dict(zip(outputs(op), map(np.array, net.forward(outputs(op))), strict=True))


FUNCTIONS = "LSTM lstm, LSTM peephole, GRU gru, GRU original-gru"
DIFFERS = {"": {"lengths (6)": "lengths"}, "LSTM peephole": {"order of P (17)": "*"}}
IMPLEMENTATIONS = operators("opencv-python-headless", run, FUNCTIONS, DIFFERS)
