"""OpenVINO: operators of ONNX."""

from numpy_xlstm.numerics import Arrays
from tests.conformance.implementations.onnx_operators import Operator, model_of, outputs
from tests.outside.shared import EMPTY_ROW, operators

REQUIRES = "openvino>=2026.2,<2027 onnx>=1.17,<2"


def run(op: Operator) -> Arrays:
    import openvino

    model = openvino.Core().read_model(model_of(op, constant=True).SerializeToString())
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(op.inputs["X"].copy())
    return {name: results[name] for name in outputs(op)}


FUNCTIONS = "LSTM lstm, LSTM peephole, GRU gru, GRU original-gru, RNN elman"
DIFFERS = {"": EMPTY_ROW, "LSTM peephole": {"P ignored (16)": "*"}}
IMPLEMENTATIONS = operators("openvino", run, FUNCTIONS, DIFFERS)
