"""ONNX Runtime for browsers, run by Node: operators of ONNX."""

from tempfile import NamedTemporaryFile

from numpy_xlstm.numerics import Arrays
from tests.conformance.implementations.onnx_operators import Operator, model_of
from tests.outside.node import printed
from tests.outside.shared import EMPTY_ROW, operators

REQUIRES = "onnxruntime-web@1.30 onnx>=1.17,<2"


def run(op: Operator) -> Arrays:
    with NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model_of(op, constant=True).SerializeToString())
        file.flush()
        return printed("ort_web.mjs", {"X": op.inputs["X"]}, file.name)


FUNCTIONS = "LSTM lstm, GRU gru, GRU original-gru, RNN elman"
DIFFERS = {"": EMPTY_ROW, "LSTM lstm": {"small gates (7)": "closed-gates"}}
IMPLEMENTATIONS = operators("onnxruntime-web", run, FUNCTIONS, DIFFERS)
