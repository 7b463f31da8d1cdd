"""Models as ONNX graphs: one function for each layer, in the order of its equations."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from numpy_xlstm.cells.elman import ElmanCell
from numpy_xlstm.cells.gru import GRUCell
from numpy_xlstm.cells.gru_original import OriginalGRUCell
from numpy_xlstm.cells.lstm import LSTMCell
from numpy_xlstm.cells.lstmp import LSTMPCell
from numpy_xlstm.cells.mlstm import EPS, mLSTMCell
from numpy_xlstm.cells.peephole import PeepholeLSTMCell
from numpy_xlstm.cells.slstm import sLSTMCell
from numpy_xlstm.checkpoints.onnx.graph import OPSET, Graph, Tensor
from numpy_xlstm.checkpoints.onnx.maps import (
    ACTIVATIONS,
    affine,
    by_head,
    capped,
    gates_by_head,
    heads,
    headwise,
    mapped,
    merged,
    normed,
    sigmoid,
    silu,
)
from numpy_xlstm.checkpoints.onnx.memories import END, Result, lstmp, mlstm, slstm
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.layers import CausalConv1d, Stacked, mLSTM
from numpy_xlstm.layers.rnn import RNNBase
from numpy_xlstm.layers.sequence import SequenceLayer, TorchSequence
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.models.blocks import BlockStack, ResidualBlock
from numpy_xlstm.models.large import xLSTMLargeLayer
from numpy_xlstm.models.mlstm_layer import mLSTMBlockState, mLSTMLayer
from numpy_xlstm.models.slstm_layer import B_NAME, R_NAME, sLSTMBlockState, sLSTMLayer
from numpy_xlstm.trees import leaves, places, rebuild


def graph_of(
    model: Any, dtype: np.dtype[Any], parameters: list[TensorProto], *, step: bool
) -> ModelProto:
    """Make the graph of a model for one step or for several, which computes in ``dtype``.

    ``parameters`` describe the stored parameters, in their order.
    """
    g = Graph(dtype, step=step)
    for stored, array in zip(parameters, model.params.values(), strict=True):
        parameter, same = Tensor(g, stored.name), stored.data_type == g.float
        g.parameter(array, parameter if same else parameter("Cast", to=g.float))
    is_language_model = isinstance(model, LanguageModel)
    first, y_name = ("tokens", "logits") if is_language_model else ("x", "y")
    x, (empty, two) = Tensor(g, first), (model.init_state(rows) for rows in (1, 2))
    shapes: dict[str, list[Any]] = {  # of arrays that are not empty; rows are what differs
        name: [n if n == m else "batch" for n, m in zip(a.shape, b.shape, strict=True)]
        for (name, a), (_, b) in zip(leaves("state", empty), leaves("state", two), strict=True)
        if a.size
    }
    before = [Tensor(g, name) if name in shapes else a for name, a in leaves("state", empty)]
    y, after = emit_outer(model, x, rebuild(empty, iter(before)))
    results = {y_name: y} | {f"next_{n}": x for n, x in places("state", after) if n in shapes}
    for name, result in results.items():
        g.nodes.append(helper.make_node("Identity", [result.name], [name]))
    axes: list[Any] = [{"batch": "batch", "time": 1 if step else "time"}[a] for a in model.axes]
    described = g.info(first, [*axes, getattr(model, "in_features", 0)])
    if is_language_model:
        described = helper.make_tensor_value_info(first, TensorProto.INT64, axes)
    inputs = [described, *(g.info(name, shape) for name, shape in shapes.items())]
    shapes_after = [[*axes, model.out_features], *shapes.values()]
    outputs = [g.info(*pair) for pair in zip(results, shapes_after, strict=True)]
    arrays = [*parameters, *g.initializers()]
    graph = helper.make_graph(g.nodes, type(model).__name__, inputs, outputs, arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def emit_outer(model: Any, x: Tensor, state: Any) -> Result:
    """Add a model. Without steps, it runs on one of zeros, whose results are dropped.

    ONNX Runtime's LSTM and GRU refuse a sequence of no steps.
    """
    g, axis = x.graph, model.axes.index("time")
    if g.step:
        return emit_joined(model, x, state)
    T, rank = x("Shape", start=axis, end=axis + 1), 2 if isinstance(model, LanguageModel) else 3
    at_end = g("Sub", [1], T("Min", [1])) * np.eye(rank, dtype=np.int64)[axis]
    y, after = emit_joined(model, x("Pad", g("Concat", [0] * rank, at_end, axis=0)), state)
    results = [
        T("Equal", [0])("Where", old, new) if isinstance(new, Tensor) else new
        for (_, old), (_, new) in zip(places("", state), places("", after), strict=True)
    ]
    return y("Slice", [0], T, [axis]), rebuild(after, iter(results))


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


def emit(layer: Any, x: Tensor, state: Any) -> Result:
    """Add the nodes of a layer; a subclass with its own equations is refused."""
    kind: Any = next(kind for kind in type(layer).__mro__ if kind in _emit.registry)
    name = "compute" if hasattr(layer, "compute") else "forward"
    same = getattr(type(layer), name, None) is getattr(kind, name, None)
    return _emit.registry[kind if same else object](layer, x, state)


@singledispatch
def _emit(layer: Any, x: Tensor, state: Any) -> Result:
    """Map x (B, T, ·) and a state to tensors, for a kind of layer."""
    raise CheckpointError(
        f"model: expected layers and cells of this package, which have an ONNX graph; "
        f"got {type(layer).__name__}"
    )


@_emit.register
def _(model: LanguageModel, x: Tensor, state: Any) -> Result:
    embedded = x.graph("Gather", model.embedding.params["weight"], x)
    h, state = emit(model.body, embedded, state)
    return capped(affine(h, model.head), model.cap), state


@_emit.register
def _(stack: BlockStack, x: Tensor, state: Any) -> Result:
    after = []
    for block, before in zip(stack.blocks, state, strict=True):
        x, now = emit(block, x, before)
        after.append(now)
    return x if stack.norm is None else normed(x, stack.norm), tuple(after)


@_emit.register
def _(block: ResidualBlock, x: Tensor, state: Any) -> Result:
    y, state = emit(block.layer, normed(x, block.norm), state)
    x = x + y
    if block.ffn is None or block.ffn_norm is None:
        return x, state
    gate, value = affine(normed(x, block.ffn_norm), *block.ffn.up.linears).split(2)
    product = ACTIVATIONS[block.ffn.act_fn](gate) * value
    return x + affine(product, block.ffn.proj_down), state


@_emit.register
def _(layer: mLSTMLayer, u: Tensor, state: mLSTMBlockState) -> Result:
    NH = layer.config.num_heads
    x, z = affine(u, layer.proj_up).split(2)
    convolved, conv = emit(layer.conv1d, x, state.conv)
    active = silu(convolved)
    qk = headwise(active, layer.q_proj, layer.k_proj).split(2)
    qkv = [merged(a) for a in (*qk, headwise(x, layer.v_proj))]
    gates = affine(u.graph("Concat", *qkv, axis=-1), *layer.gates.linears)
    h, memory = mlstm(heads(qkv, gates, NH, layer.inner), state.mlstm, EPS)
    read = merged(normed(h, layer.outnorm)) + active * layer.params["learnable_skip"]
    return affine(read * silu(z), layer.proj_down), mLSTMBlockState(conv, memory)


@_emit.register
def _(layer: xLSTMLargeLayer, x: Tensor, state: Any) -> Result:
    config = layer.config
    NH, QK, V = config.num_heads, config.qk_dim, config.v_dim
    maps = affine(x, *layer.qkvo.linears, *layer.gates.linears)
    q, k, v, o, gates = maps.split([QK, QK, V, V, 2 * NH])
    inputs = heads((q, k, v), capped(gates, config.gate_soft_cap), NH, QK)
    h, state = mlstm(inputs, state, float(config.eps))
    gated = sigmoid(o) * merged(normed(h, layer.multihead_norm))
    return affine(gated, layer.out_proj), state


@_emit.register
def _(layer: sLSTMLayer, x: Tensor, state: sLSTMBlockState) -> Result:
    g, NH, (i, f, z, o) = x.graph, layer.config.num_heads, layer.gates
    conv, active = state.conv, x
    if layer.conv1d is not None:
        convolved, conv = emit(layer.conv1d, x, state.conv)
        active = silu(convolved)
    maps = headwise(active, i, f, blocks=NH), headwise(x, z, o, blocks=NH)
    b = gates_by_head(g.tensor(layer.params[B_NAME]), NH, NH, 1, -1)
    R = g.tensor(layer.params[R_NAME]).transpose(0, 2, 1)
    h, memory = slstm(g("Concat", *maps, axis=-1) + b, R, state.slstm, NH, "sigmoid")
    return merged(normed(h, layer.group_norm)), sLSTMBlockState(conv, memory)


@_emit.register
def _(conv: CausalConv1d, x: Tensor, state: Tensor) -> Result:
    """Add K shifted products: Conv is slow in ONNX Runtime if each channel has its own kernel."""
    g, K, D, seen = x.graph, conv.kernel_size, conv.in_features, x
    if K > 1:
        seen = g("Concat", state, x, axis=1)
        state = seen("Slice", [1 - K], [END], [1])
    taps = g.tensor(conv.params["conv.weight"]).reshape(D, K).transpose(1, 0)
    if g.step:
        y = (seen * taps)("ReduceSum", [1])
    else:
        y = seen("Slice", [0], [1 - K or END], [1]) * taps("Gather", 0)
        for j in range(1, K):
            y = y + seen("Slice", [j], [j + 1 - K or END], [1]) * taps("Gather", j)
    return y + conv.params["conv.bias"], state


@_emit.register(mLSTM)
@_emit.register(mLSTMCell)
def _(layer: Any, x: Tensor, state: Any) -> Result:
    g, p = x.graph, {name: x.graph.tensor(array) for name, array in layer.params.items()}
    NH, H, QK = layer.num_heads, layer.hidden_size, layer.qk_dim
    W = g("Concat", *(p[f"W_{a}"] for a in "qkvifo"), axis=0)
    p["b_k"] = p["b_k"] * (QK // NH) ** 0.5  # the cell adds b_k after the division by √DK
    maps = mapped(x, W, g("Concat", *(p[f"b_{a}"] for a in "qkvifo"), axis=0))
    *qkv, i_f, o = maps.split([QK, QK, H, 2 * NH, H])
    gates = layer.input_gate, layer.forget_gate
    h, state = mlstm(heads(qkv, i_f, NH, QK), state, float(layer.eps), gates)
    return sigmoid(o) * merged(h), state


@_emit.register
def _(layer: SequenceLayer, x: Tensor, state: Any) -> Result:
    return emit(layer.cell, x, state)


@_emit.register(Stacked)
@_emit.register(RNNBase)
def _(stack: Stacked, x: Tensor, state: Any) -> Result:
    layers, states, after = iter(stack.layers), iter(state), []
    backwards = "Slice", [-1], [-END], [1], [-1]  # of the steps of x (B, T, ·)
    for count in stack.directions:
        ys = []
        for reverse in (False, True)[:count]:
            y, now = emit(next(layers), x(*backwards) if reverse else x, next(states))
            ys.append(y(*backwards) if reverse else y)
            after.append(now)
        x = ys[0] if count == 1 else x.graph("Concat", *ys, axis=-1)
    return x, tuple(after)


@_emit.register
def _(layer: TorchSequence, x: Tensor, state: Any) -> Result:
    cell, g = layer.cell.over(layer.cell_params()), x.graph
    for name, terms in layer.terms.items():
        if len(terms) > 1:
            first, second = (layer.params[term] for term in terms)
            g.parameter(cell.params[name], g.tensor(first) + second)
    return emit(cell, x, state)


@_emit.register
def _(cell: sLSTMCell, x: Tensor, state: Any) -> Result:
    NH, R = cell.num_heads, x.graph.tensor(cell.params["R"]).transpose(0, 2, 1)
    W, b = (
        gates_by_head(x.graph.tensor(rows), NH, *rows.shape)
        for rows in (cell.params["W"], cell.params["b"])
    )
    h, state = slstm(by_head(mapped(x, W, b), NH), R, state, NH, cell.forget_gate)
    return merged(h), state


@_emit.register
def _(cell: LSTMPCell, x: Tensor, state: Any) -> Result:
    p = cell.params
    R, W_hr = (x.graph.tensor(p[name]).transpose(1, 0) for name in ("R", "W_hr"))
    h, state = lstmp(by_head(mapped(x, p["W"], p["b"]), 1), R, W_hr, state)
    return merged(h), state


OPERATORS: dict[type, tuple[str, tuple[int, ...]]] = {
    LSTMCell: ("LSTM", (0, 3, 1, 2)),
    PeepholeLSTMCell: ("LSTM", (0, 3, 1, 2)),
    GRUCell: ("GRU", (1, 0, 2)),
    OriginalGRUCell: ("GRU", (1, 0, 2)),
    ElmanCell: ("RNN", (0,)),
}
"""ONNX's operator for each cell, and its gates as indices into the order of this package."""


@_emit.register(LSTMCell)
@_emit.register(PeepholeLSTMCell)
@_emit.register(GRUCell)
@_emit.register(OriginalGRUCell)
@_emit.register(ElmanCell)
def _(cell: Any, x: Tensor, state: Any) -> Result:
    """Add the operator of ONNX, for one direction of one layer."""
    g, p, options = x.graph, cell.params, {"hidden_size": cell.hidden_size}
    operator, order_of_gates = OPERATORS[type(cell)]
    if operator == "GRU":
        options["linear_before_reset"] = int(isinstance(cell, GRUCell))
    if operator == "RNN":
        options["activations"] = [cell.nonlinearity.capitalize()]

    def rows(array: Any, order: Sequence[int]) -> Tensor:
        gates = g.tensor(array).split(len(order), axis=0)
        return g("Concat", *(gates[k] for k in order), axis=0)("Unsqueeze", [0])

    W, R, b, b_h = (
        rows(p.get(n, np.zeros(p["b"].shape)), order_of_gates) for n in ("W", "R", "b", "b_h")
    )
    peepholes = [rows(p["P"], (0, 2, 1))] if "P" in p else []
    states = [part("Unsqueeze", [0]) for part in state]
    inputs = x.transpose(1, 0, 2), W, R, b("Concat", b_h, axis=1), None, *states, *peepholes
    y, *after = g.several(operator, 1 + len(state), *inputs, **options)
    y = y("Squeeze", [1]).transpose(1, 0, 2)
    return y, type(state)(*(part("Squeeze", [0]) for part in after))
