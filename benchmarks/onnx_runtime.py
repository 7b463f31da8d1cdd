"""Our models as ONNX graphs in ONNX Runtime, with one thread."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.ours import Model
from benchmarks.timing import Work
from numpy_xlstm.checkpoints.onnx import to_onnx
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves


class Graph:
    """A session of a model, and its empty state."""

    def __init__(self, model: Any, rows: int, *, step: bool) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        content = to_onnx(model, step=step).SerializeToString()
        self.session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
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
