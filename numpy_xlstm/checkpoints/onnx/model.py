"""The ONNX graph of a whole model: its inputs and outputs, and one, several or no steps."""

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from numpy_xlstm.checkpoints.onnx.graph import OPSET, Graph, Name
from numpy_xlstm.checkpoints.onnx.layers import emit
from numpy_xlstm.checkpoints.onnx.memories import Result
from numpy_xlstm.layers.rnn_base import RNNBase
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.trees import leaves, places, rebuild


def graph_of(model: Any, dtype: np.dtype[Any], stored: int, *, step: bool) -> ModelProto:
    """Make the graph of a model, without its parameters, for one step or for any number.

    It computes in ``dtype``. ``stored`` is ONNX's number of the dtype of the stored parameters.
    """
    g = Graph(dtype, step=step)
    for name, array in model.params.items():
        g.parameter(array, name)
        if stored != g.float:
            g.parameter(array, g("Cast", name, to=g.float))
    inputs, outputs = interface(g, model)
    results = steps(g, model) if step else any_number_of_steps(g, model)
    g.name_outputs(results, [output.name for output in outputs])
    graph = helper.make_graph(g.nodes, type(model).__name__, inputs, outputs, g.initializers())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def interface(g: Graph, model: Any) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """Describe the inputs (x or tokens, state) and the outputs (y or logits, state)."""
    axes = {"batch": "batch", "time": 1 if g.step else "time"}
    order = [axes[name] for name in model.axes]
    shapes = state_shapes(model)
    x, y = names(model)
    if x == "tokens":
        given = helper.make_tensor_value_info(x, TensorProto.INT64, order)
    else:
        given = g.info(x, [*order, model.in_features])
    inputs = [given, *(g.info(name, shape) for name, shape in shapes.items())]
    outputs = [g.info(y, [*order, model.out_features])]
    outputs += [g.info(f"next_{name}", shape) for name, shape in shapes.items()]
    return inputs, outputs


def names(model: Any) -> tuple[str, str]:
    """Return the names of the first input and of the first output."""
    return ("tokens", "logits") if isinstance(model, LanguageModel) else ("x", "y")


def state_shapes(model: Any) -> dict[str, list[Any]]:
    """Return the names of the arrays of a state, without empty ones, and their shapes."""
    one, two = (leaves("state", model.init_state(rows)) for rows in (1, 2))
    return {
        name: [n if n == m else "batch" for n, m in zip(a.shape, b.shape, strict=True)]
        for (name, a), (_, b) in zip(one, two, strict=True)
        if a.size
    }


def steps(g: Graph, model: Any) -> list[Name]:
    """Add the steps of the sequence; return the names of the outputs."""
    empty, kept, x = model.init_state(1), state_shapes(model), names(model)[0]
    parts = [name if name in kept else "" for name, _ in leaves("state", empty)]
    x = x if model.batch_first else g("Transpose", x, perm=[1, 0, 2])
    y, after = emit_outer(model, g, x, rebuild(empty, iter(parts)))
    y = y if model.batch_first else g("Transpose", y, perm=[1, 0, 2])
    return [y, *(x for name, (_, x) in zip(parts, places("", after), strict=True) if name)]


def any_number_of_steps(g: Graph, model: Any) -> list[Name]:
    """Add a branch for one step, one for none and one for several."""
    x, axis = names(model)[0], model.axes.index("time")
    T = g.length = g("Shape", x, start=axis, end=axis + 1)

    def one(g: Graph) -> list[Name]:
        g.step = True
        return steps(g, model)

    def none(g: Graph) -> list[Name]:
        shape = g("Concat", g("Shape", x, end=2), [model.out_features], axis=0)
        return [g("Expand", 0.0, shape), *state_shapes(model)]

    def none_or_several(g: Graph) -> list[Name]:
        return g.branch(g("Equal", T, [0]), none, lambda g: steps(g, model))

    return g.branch(g("Equal", T, [1]), one, none_or_several)


def emit_outer(model: Any, g: Graph, x: Name, state: Any) -> Result:
    """Add a model; if it is itself an LSTM, GRU or RNN, join the states of its layers."""
    if not isinstance(model, RNNBase):
        return emit(model, g, x, state)
    count, names = len(model.layers), [name for _, name in places("", state)]
    parts = [[g("Squeeze", x, [0]) for x in g.split(name, count, axis=0)] for name in names]
    y, after = emit(model, g, x, model.inner_state(rebuild(state, iter(parts))))
    each = [[g("Unsqueeze", x, [0]) for x in xs] for xs in zip(*after, strict=True)]
    return y, rebuild(state, (g("Concat", *xs, axis=0) for xs in each))
