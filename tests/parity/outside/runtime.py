"""The operators of ONNX Runtime, on random cases, in float32."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.numerics import Array
from tests.parity.outside.operators import Operator, compare
from tests.parity.outside.random_operators import random_operator
from tests.parity.outside.suite import Case

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


def session_run(op: Operator) -> dict[str, Array]:
    """Compute outputs with ONNX Runtime, by a model with this single node."""
    reason = "{} (the extra 'peers') is not installed"
    onnx = pytest.importorskip("onnx", reason=reason.format("onnx"))
    runtime = pytest.importorskip("onnxruntime", reason=reason.format("onnxruntime"))
    feed = {name: np.ascontiguousarray(array) for name, array in op.inputs.items()}
    wanted = INPUTS if op.kind == "LSTM" else INPUTS[:6]
    outputs = ["Y", "Y_h", "Y_c"] if op.kind == "LSTM" else ["Y", "Y_h"]
    named = [name if name in feed else "" for name in wanted]
    node = onnx.helper.make_node(op.kind, named, outputs, **op.attributes)
    kind, info = onnx.helper.np_dtype_to_tensor_dtype, onnx.helper.make_tensor_value_info
    ends = (
        [info(name, kind(a.dtype), a.shape) for name, a in feed.items()],
        [info(name, kind(feed["X"].dtype), None) for name in outputs],
    )
    opset = onnx.helper.make_opsetid("", 14)
    graph = onnx.helper.make_graph([node], op.kind, *ends)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    options: Any = {"providers": ["CPUExecutionProvider"]}
    session = runtime.InferenceSession(model.SerializeToString(), **options)
    return dict(zip(outputs, session.run(None, feed), strict=True))


def _beside_session(op: Operator) -> float:
    return compare(op, session_run(op))


def runtime_cases(kind: str, count: int) -> dict[str, Case]:
    """Random cases of one operator."""
    ops = {str(seed): random_operator(kind, seed, np.float32) for seed in range(count)}
    return {name: partial(_beside_session, op) for name, op in ops.items()}
