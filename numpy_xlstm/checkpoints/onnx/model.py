"""The ONNX graph of a whole model, with its inputs and outputs."""

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from numpy_xlstm.checkpoints.onnx.graph import OPSET, Graph, Tensor
from numpy_xlstm.checkpoints.onnx.layers import emit
from numpy_xlstm.checkpoints.onnx.memories import Result
from numpy_xlstm.layers.rnn_base import RNNBase
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.trees import leaves, places, rebuild


def graph_of(model: Any, dtype: np.dtype[Any], stored: int, *, step: bool) -> ModelProto:
    """Make the graph of a model, without its parameters, for one step or for several.

    It computes in ``dtype``. ``stored`` is ONNX's number of the dtype of the stored parameters.
    """
    g = Graph(dtype, step=step)
    for name, array in model.params.items():
        parameter = Tensor(g, name)
        g.parameter(array, parameter if stored == g.float else parameter("Cast", to=g.float))
    is_language_model = isinstance(model, LanguageModel)
    first, y_name = ("tokens", "logits") if is_language_model else ("x", "y")
    x, empty, shapes = Tensor(g, first), model.init_state(1), state_shapes(model)
    before = [Tensor(g, name) if name in shapes else a for name, a in leaves("state", empty)]
    y, after = emit_outer(model, x, rebuild(empty, iter(before)))
    results = {y_name: y} | {f"next_{n}": x for n, x in places("state", after) if n in shapes}
    for name, result in results.items():
        g.nodes.append(helper.make_node("Identity", [result.name], [name]))
    axes: list[Any] = [{"batch": "batch", "time": 1 if step else "time"}[a] for a in model.axes]
    given = g.info(first, [*axes, getattr(model, "in_features", 0)])
    if is_language_model:
        given = helper.make_tensor_value_info(first, TensorProto.INT64, axes)
    inputs = [given, *(g.info(name, shape) for name, shape in shapes.items())]
    shapes_after = [[*axes, model.out_features], *shapes.values()]
    outputs = [g.info(*pair) for pair in zip(results, shapes_after, strict=True)]
    graph = helper.make_graph(g.nodes, type(model).__name__, inputs, outputs, g.initializers())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def state_shapes(model: Any) -> dict[str, list[Any]]:
    """Return the names of the arrays of a state, without empty ones, and their shapes."""
    one, two = (leaves("state", model.init_state(rows)) for rows in (1, 2))
    return {
        name: [n if n == m else "batch" for n, m in zip(a.shape, b.shape, strict=True)]
        for (name, a), (_, b) in zip(one, two, strict=True)
        if a.size
    }


def emit_outer(model: Any, x: Tensor, state: Any) -> Result:
    """Add a model. Without steps, it runs on one of zeros, whose results are dropped."""
    g, axis = x.graph, model.axes.index("time")
    if g.step:
        return emit_joined(model, x, state)
    T, rank = x("Shape", start=axis, end=axis + 1), 2 if isinstance(model, LanguageModel) else 3
    at_end = g("Sub", [1], T("Min", [1])) * np.eye(rank, dtype=np.int64)[axis]
    pads = g("Concat", [0] * rank, at_end, axis=0)
    y, after = emit_joined(model, x("Pad", pads), state)
    kept = [
        T("Equal", [0])("Where", old, new) if isinstance(new, Tensor) else new
        for (_, old), (_, new) in zip(places("", state), places("", after), strict=True)
    ]
    return y("Slice", [0], T, [axis]), rebuild(after, iter(kept))


def emit_joined(model: Any, x: Tensor, state: Any) -> Result:
    """Add a model in its own order of axes; LSTM, GRU and RNN join the states of their layers."""
    x = x if model.batch_first else x.transpose(1, 0, 2)
    if not isinstance(model, RNNBase):
        y, after = emit(model, x, state)
    else:
        parts = [
            [part("Squeeze", [0]) for part in whole.split(len(model.layers), axis=0)]
            for _, whole in places("", state)
        ]
        y, layers = emit(model, x, model.inner_state(rebuild(state, iter(parts))))
        columns = (
            [part("Unsqueeze", [0]) for part in parts] for parts in zip(*layers, strict=True)
        )
        after = rebuild(state, (x.graph("Concat", *column, axis=0) for column in columns))
    return y if model.batch_first else y.transpose(1, 0, 2), after
