"""ONNX Runtime: our models as graphs, with one thread, and its own LSTM and GRU."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from benchmarks.ours import F32, Model, draw, make_layer
from benchmarks.timing import Work
from numpy_xlstm.checkpoints.onnx import to_onnx
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import num_threads
from numpy_xlstm.trees import leaves


def session_of(model: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    content = model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class Graph:
    """A session of a model, and its empty state."""

    def __init__(self, model: Any, rows: int, *, step: bool) -> None:
        self.session = session_of(to_onnx(model, step=step), 1)
        self.empty: dict[str, Array] = dict(leaves("state", model.init_state(rows)))
        self.names = [each.name for each in self.session.get_outputs()]

    def run(self, tokens: Any, state: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return logits and the state after the tokens."""
        logits, *after = self.session.run(None, {"tokens": tokens, **state})
        names = (name.removeprefix("next_") for name in self.names[1:])
        return logits, dict(zip(names, after, strict=True))


def generation(spec: Model, tokens: int, step: bool = True) -> Work:
    """Set up greedy generation of one row."""
    graph = Graph(spec.make(), 1, step=step)

    def work() -> None:
        token, state = np.ones((1, 1), np.int64), graph.empty
        for _ in range(tokens):
            logits, state = graph.run(token, state)
            token = logits.argmax(-1)

    return work


def prefill(spec: Model) -> Work:
    """Set up a forward of a whole text."""
    graph, (tokens, _) = Graph(spec.make(), spec.B, step=False), spec.batch()
    return lambda: graph.run(tokens, graph.empty)[0][:, -1]


def layer_forward(kind: str, B: int, T: int, H: int) -> Work:
    """Set up the operator LSTM or GRU over a time-major array, with the weights of numpy_xlstm."""
    orders = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}  # ONNX has i, o, f, c and z, r, h
    order, ours = orders[kind], make_layer(kind, H).params

    def gates(name: str) -> Array:
        array: Array = ours[f"{name}_l0"].reshape(len(order), H, -1)[list(order)]
        return array.reshape(1, -1, array.shape[-1])

    b = np.concatenate([gates("bias_ih"), gates("bias_hh")], axis=1)[..., 0]
    weights = {"W": gates("weight_ih"), "R": gates("weight_hh"), "b": b}
    options: dict[str, Any] = {} if kind == "LSTM" else {"linear_before_reset": 1}
    node = helper.make_node(kind, ["x", *weights], ["y"], hidden_size=H, **options)
    real = onnx.TensorProto.FLOAT
    x, y = (helper.make_tensor_value_info(name, real, None) for name in "xy")
    arrays = [numpy_helper.from_array(array.astype(F32), name) for name, array in weights.items()]
    graph = helper.make_graph([node], kind, [x], [y], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = session_of(model, num_threads())
    inputs = {"x": draw(B, T, H).swapaxes(0, 1).copy()}
    return lambda: session.run(None, inputs)[0][-1, 0]
