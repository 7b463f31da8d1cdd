"""ONNX graphs of layers and models: one function for each layer, in the order of its equations."""

from collections.abc import Callable, Sequence
from functools import partial, reduce, singledispatch
from math import gcd
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
from numpy_xlstm.checkpoints.onnx.graph import DOMAIN, OPSET, Graph, Name
from numpy_xlstm.checkpoints.onnx.memories import END, Result, lstmp, mlstm, sigmoid, slstm
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.layers import CausalConv1d, HeadwiseLinear, Linear, Stacked, mLSTM
from numpy_xlstm.layers.activations import ALPHA, SCALE
from numpy_xlstm.layers.norms import Norm
from numpy_xlstm.layers.rnn_base import RNNBase
from numpy_xlstm.layers.sequence import SequenceLayer
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.models.blocks import BlockStack, ResidualBlock
from numpy_xlstm.models.large_block import xLSTMLargeLayer
from numpy_xlstm.models.mlstm_layer import mLSTMBlockState, mLSTMLayer
from numpy_xlstm.models.slstm_layer import B_NAME, R_NAME, sLSTMBlockState, sLSTMLayer
from numpy_xlstm.trees import leaves, places, rebuild

WIDTH = 32
"""Width below which blocks of a block-diagonal matrix are joined."""


def graph_of(model: Any, dtype: np.dtype[Any], stored: int, *, step: bool) -> ModelProto:
    """Make the graph of a model, without its parameters, for one step or for any number.

    It computes in ``dtype``. ``stored`` is ONNX's number of the dtype of the stored parameters.
    """
    g = Graph(dtype, step=step)
    for name, array in model.params.items():
        g.parameter(array, name)
        if stored != g.float:
            g.parameter(array, g("Cast", name, to=g.float))
    axes, empty = {"batch": "batch", "time": 1 if step else "time"}, model.init_state(1)
    order = [axes[name] for name in model._order]
    shapes = {
        name: [n if n == m else "batch" for n, m in zip(a.shape, b.shape, strict=True)]
        for (name, a), (_, b) in zip(
            leaves("state", empty), leaves("state", model.init_state(2)), strict=True
        )
        if a.size
    }
    names = [name if name in shapes else "" for name, _ in leaves("state", empty)]
    tokens = isinstance(model, LanguageModel)
    given, result = ("tokens", "logits") if tokens else ("x", "y")
    inputs = [g.info(given, [*order, model.in_features])]
    if tokens:
        inputs = [helper.make_tensor_value_info(given, TensorProto.INT64, order)]
    inputs += [g.info(name, shape) for name, shape in shapes.items()]
    outputs = [g.info(result, [*order, model.out_features])]
    outputs += [g.info(f"next_{name}", shape) for name, shape in shapes.items()]

    def steps(g: Graph) -> list[Name]:
        x = given if model.batch_first else g("Transpose", given, perm=[1, 0, 2])
        y, after = emit_outer(model, g, x, rebuild(empty, iter(names)))
        y = y if model.batch_first else g("Transpose", y, perm=[1, 0, 2])
        return [y, *(x for name, (_, x) in zip(names, places("", after), strict=True) if name)]

    def one(g: Graph) -> list[Name]:
        g.step = True
        return steps(g)

    def none(g: Graph) -> list[Name]:
        shape = g("Concat", g("Shape", given, end=2), [model.out_features], axis=0)
        return [g("Expand", 0.0, shape), *shapes]

    def none_or_several(g: Graph) -> list[Name]:
        return g.branch(g("Equal", T, [0]), none, steps)

    if step:
        found = steps(g)
    else:
        axis = order.index("time")
        T = g.length = g("Shape", given, start=axis, end=axis + 1)
        found = g.branch(g("Equal", T, [1]), one, none_or_several)
    g.rename(found, [each.name for each in outputs])
    graph = helper.make_graph(g.nodes, type(model).__name__, inputs, outputs, g.initializers())
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    functions = list(g.functions.values())
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


def emit_outer(model: Any, g: Graph, x: Name, state: Any) -> Result:
    """Add a model; if it is itself an LSTM, GRU or RNN, join the states of its layers."""
    if not isinstance(model, RNNBase):
        return emit(model, g, x, state)
    count, names = len(model._stack.layers), [name for _, name in places("", state)]
    parts = [[g("Squeeze", x, [0]) for x in g.split(name, count, axis=0)] for name in names]
    y, after = emit(model, g, x, model.inner_state(rebuild(state, iter(parts))))
    each = [[g("Unsqueeze", x, [0]) for x in xs] for xs in zip(*after, strict=True)]
    return y, rebuild(state, (g("Concat", *xs, axis=0) for xs in each))


def emit(layer: Any, g: Graph, x: Name, state: Any) -> Result:
    """Add the nodes of a layer; a subclass with its own equations is refused."""
    for kind in type(layer).__mro__[:-1]:
        if kind in _emit.registry:
            name = "compute" if hasattr(layer, "compute") else "forward"
            if getattr(type(layer), name) is getattr(kind, name):
                return _emit.registry[kind](layer, g, x, state)
            break
    raise CheckpointError(
        f"model: expected layers and cells of this package, which have an ONNX graph; "
        f"got {type(layer).__name__}"
    )


@singledispatch
def _emit(layer: Any, g: Graph, x: Name, state: Any) -> Result:
    """Map x (B, T, ·) and a state to names; see :func:`emit`."""
    raise NotImplementedError


@_emit.register
def _(model: LanguageModel, g: Graph, x: Name, state: Any) -> Result:
    embedded = g("Gather", model.embedding.params["weight"], x)
    h, state = emit(model.body, g, embedded, state)
    return capped(g, affine(g, h, model.head), model.cap), state


@_emit.register
def _(stack: BlockStack, g: Graph, x: Name, state: Any) -> Result:
    after = []
    for block, before in zip(stack.blocks, state, strict=True):
        x, now = emit(block, g, x, before)
        after.append(now)
    return x if stack.norm is None else normed(g, x, stack.norm), tuple(after)


@_emit.register
def _(block: ResidualBlock, g: Graph, x: Name, state: Any) -> Result:
    y, state = emit(block.layer, g, normed(g, x, block.norm), state)
    x = g("Add", x, y)
    if block.ffn is None or block.ffn_norm is None:
        return x, state
    both = affine(g, normed(g, x, block.ffn_norm), *block.ffn.up.linears)
    gate, value = g.split(both, 2)
    product = g("Mul", ACTIVATIONS[block.ffn.act_fn](g, gate), value)
    return g("Add", x, affine(g, product, block.ffn.proj_down)), state


@_emit.register
def _(layer: mLSTMLayer, g: Graph, u: Name, state: mLSTMBlockState) -> Result:
    NH = layer.config.num_heads
    x, z = g.split(affine(g, u, *layer.up.linears), 2)
    convolved, conv = emit(layer.conv1d, g, x, state.conv)
    active = silu(g, convolved)
    qk = g.split(headwise(g, active, layer.q_proj, layer.k_proj), 2)
    qkv = [merged(g, a) for a in (*qk, headwise(g, x, layer.v_proj))]
    gates = affine(g, g("Concat", *qkv, axis=-1), *layer.gates.linears)
    h, memory = mlstm(g, heads(g, qkv, gates, NH, layer.inner), state.mlstm, EPS)
    skip = g("Mul", layer.params["learnable_skip"], active)
    read = g("Add", merged(g, normed(g, h, layer.outnorm)), skip)
    y = affine(g, g("Mul", read, silu(g, z)), layer.proj_down)
    return y, mLSTMBlockState(conv, memory)


@_emit.register
def _(layer: xLSTMLargeLayer, g: Graph, x: Name, state: Any) -> Result:
    config = layer.config
    NH, QK, V = config.num_heads, config.qk_dim, config.v_dim
    maps = affine(g, x, *layer.qkvo.linears, *layer.gates.linears)
    q, k, v, o, gates = g.split(maps, [QK, QK, V, V, 2 * NH])
    inputs = heads(g, (q, k, v), capped(g, gates, config.gate_soft_cap), NH, QK)
    h, state = mlstm(g, inputs, state, float(config.eps))
    gated = g("Mul", sigmoid(g, o), merged(g, normed(g, h, layer.multihead_norm)))
    return affine(g, gated, layer.out_proj), state


@_emit.register
def _(layer: sLSTMLayer, g: Graph, x: Name, state: sLSTMBlockState) -> Result:
    NH, (i, f, z, o) = layer.config.num_heads, layer.gates
    conv, active = state.conv, x
    if layer.conv1d is not None:
        convolved, conv = emit(layer.conv1d, g, x, state.conv)
        active = silu(g, convolved)
    maps = headwise(g, active, i, f, blocks=NH), headwise(g, x, z, o, blocks=NH)
    b = g("Reshape", gates_by_head(g, layer.params[B_NAME], NH), [NH, 1, -1])
    R = g("Transpose", layer.params[R_NAME], perm=[0, 2, 1])
    pre = g("Add", g("Concat", *maps, axis=-1), b)
    h, memory = slstm(g, pre, R, state.slstm, NH, "sigmoid")
    return merged(g, normed(g, h, layer.group_norm)), sLSTMBlockState(conv, memory)


@_emit.register
def _(conv: CausalConv1d, g: Graph, x: Name, state: Name) -> Result:
    """Add K shifted products: Conv is slow in ONNX Runtime if each channel has its own kernel."""
    K, D, seen = conv.kernel_size, conv.in_features, x
    if K > 1:
        seen = g("Concat", state, x, axis=1)
        state = g("Slice", seen, [1 - K], [END], [1])
    taps = g("Transpose", g("Reshape", conv.params["conv.weight"], [D, K]), perm=[1, 0])
    if g.step:
        y = g("ReduceSum", g("Mul", seen, taps), [1])
    else:
        terms = [
            g("Mul", g("Slice", seen, [j], [j + 1 - K or END], [1]), g("Gather", taps, j))
            for j in range(K)
        ]
        y = reduce(partial(g, "Add"), terms)
    return added(g, y, conv.params.get("conv.bias")), state


@_emit.register(mLSTM)
@_emit.register(mLSTMCell)
def _(layer: Any, g: Graph, x: Name, state: Any) -> Result:
    NH, H, QK, p = layer.num_heads, layer.hidden_size, layer.qk_dim, layer.params
    root = float(QK // NH) ** 0.5
    W = g("Concat", *(p[f"W_{a}"] for a in "qkvifo"), axis=0)
    b = [g("Mul", p["b_k"], root) if a == "k" else p[f"b_{a}"] for a in "qkvifo"]
    maps = mapped(g, x, W, g("Concat", *b, axis=0))
    *qkv, i_f, o = g.split(maps, [QK, QK, H, 2 * NH, H])
    gates = layer.input_gate, layer.forget_gate
    h, state = mlstm(g, heads(g, qkv, i_f, NH, QK), state, float(layer.eps), gates)
    return g("Mul", sigmoid(g, o), merged(g, h)), state


@_emit.register
def _(layer: SequenceLayer, g: Graph, x: Name, state: Any) -> Result:
    return emit(layer.cell, g, x, state)


@_emit.register
def _(stack: Stacked, g: Graph, x: Name, state: Any) -> Result:
    each, after = zip(stack.layers, state, strict=True), []
    for directions in stack.directions:
        ys = []
        for turn in (lambda g, x: x, turned)[:directions]:
            layer, before = next(each)
            y, now = emit(layer, g, turn(g, x), before)
            ys.append(turn(g, y))
            after.append(now)
        x = ys[0] if directions == 1 else g("Concat", *ys, axis=-1)
    return x, tuple(after)


@_emit.register
def _(layer: RNNBase, g: Graph, x: Name, state: Any) -> Result:
    layer = layer.over(layer.params)
    for name, terms in layer.terms.items():
        if len(terms) > 1:
            total = g("Add", *(layer.params[term] for term in terms))
            g.parameter(layer._stack.params[name], total)
    return emit(layer._stack, g, x, state)


@_emit.register
def _(cell: sLSTMCell, g: Graph, x: Name, state: Any) -> Result:
    NH, R = cell.num_heads, g("Transpose", cell.params["R"], perm=[0, 2, 1])
    W, b = (gates_by_head(g, cell.params[name], NH) for name in "Wb")
    h, state = slstm(g, by_head(g, mapped(g, x, W, b), NH), R, state, NH, cell.forget_gate)
    return merged(g, h), state


@_emit.register
def _(cell: LSTMPCell, g: Graph, x: Name, state: Any) -> Result:
    p = cell.params
    pre = by_head(g, mapped(g, x, p["W"], p["b"]), 1)
    R, W_hr = (g("Transpose", p[name], perm=[1, 0]) for name in ("R", "W_hr"))
    h, state = lstmp(g, pre, R, W_hr, state)
    return merged(g, h), state


ROWS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""Gates of ONNX's operators, in their order, as indices into the order of this package."""


@_emit.register(LSTMCell)
@_emit.register(PeepholeLSTMCell)
@_emit.register(GRUCell)
@_emit.register(OriginalGRUCell)
@_emit.register(ElmanCell)
def _(cell: Any, g: Graph, x: Name, state: Any) -> Result:
    """Add the operator of ONNX, for one direction of one layer."""
    p, options = cell.params, {"hidden_size": cell.hidden_size}
    kind = {3: "GRU", 1: "RNN"}.get(len(p["b"]) // cell.hidden_size, "LSTM")
    if kind == "GRU":
        options["linear_before_reset"] = int("b_h" in p)
    if kind == "RNN":
        options["activations"] = [cell.nonlinearity.capitalize()]

    def rows(array: Any, order: Sequence[int]) -> Name:
        split = g.split(array, len(order), axis=0)
        return g("Unsqueeze", g("Concat", *(split[k] for k in order), axis=0), [0])

    W, R, b, b_h = (
        rows(p.get(n, np.zeros(p["b"].shape)), ROWS[kind]) for n in ("W", "R", "b", "b_h")
    )
    given = [g("Transpose", x, perm=[1, 0, 2]), W, R, g("Concat", b, b_h, axis=1), ""]
    given += [g("Unsqueeze", part, [0]) for part in state]
    if "P" in p:
        given.append(rows(p["P"], (0, 2, 1)))
    y, *after = g.several(kind, 1 + len(state), *given, **options)
    y = g("Transpose", g("Squeeze", y, [1]), perm=[1, 0, 2])
    return y, type(state)(*(g("Squeeze", part, [0]) for part in after))


def turned(g: Graph, x: Name) -> Name:
    """Reverse the steps of x (B, T, ·)."""
    return g("Slice", x, [-1], [-END], [1], [-1])


def by_head(g: Graph, x: Name, NH: int) -> Name:
    """Map (B, T, ·), head after head, to (B, NH, T, ·)."""
    if g.step:
        return g("Reshape", x, [0, NH, 1, -1])
    return g("Transpose", g("Reshape", x, [0, 0, NH, -1]), perm=[0, 2, 1, 3])


def heads(g: Graph, qkv: Sequence[Name], gates: Name, NH: int, QK: int) -> list[Name]:
    """Map q, k and v (B, T, ·) and the gates (B, T, 2·NH) to the inputs of an mLSTM."""
    q, k, v = (by_head(g, x, NH) for x in qkv)
    k = g("Mul", k, (QK // NH) ** -0.5)
    return [q, k, v, *g.split(by_head(g, gates, 2 * NH), 2, axis=1)]


def merged(g: Graph, x: Name) -> Name:
    """Map (B, NH, T, ·) to (B, T, ·)."""
    if g.step:
        return g("Reshape", x, [0, 1, -1])
    return g("Reshape", g("Transpose", x, perm=[0, 2, 1, 3]), [0, 0, -1])


def gates_by_head(g: Graph, rows: Any, NH: int) -> Name:
    """Reorder rows from gate by gate (all heads in each) to head by head (four gates in each)."""
    each = g("Transpose", g("Reshape", rows, [4, NH, -1]), perm=[1, 0, 2])
    return g("Reshape", each, rows.shape)


def added(g: Graph, y: Name, bias: Any) -> Name:
    """Add a bias if there is one."""
    return y if bias is None else g("Add", y, bias)


def mapped(g: Graph, x: Name, W: Any, b: Any) -> Name:
    """Add W x + b for the last axis of x; b may be None."""
    return added(g, g("MatMul", x, g("Transpose", W, perm=[1, 0])), b)


def affine(g: Graph, x: Name, *maps: Linear) -> Name:
    """Add several maps of one x as one product; the outputs are concatenated."""
    W = g("Concat", *(each.params["weight"] for each in maps), axis=0)
    if not any("bias" in each.params for each in maps):
        return mapped(g, x, W, None)
    b = [each.params.get("bias", np.zeros(each.out_features)) for each in maps]
    return mapped(g, x, W, g("Concat", *b, axis=0))


def headwise(g: Graph, x: Name, *maps: HeadwiseLinear, blocks: int = 0) -> Name:
    """Add maps of each head of x as one product, to (B, blocks, T, ·).

    Each block has the outputs of one head, or of several narrow ones.
    """
    NH, rows, columns = maps[0].params["weight"].shape
    blocks = blocks or NH // gcd(NH, max(1, WIDTH // max(rows, columns)))
    on_diagonal = np.eye(NH // blocks)[:, None, :, None]

    def dense(weight: Any) -> Name:
        W = g("Mul", g("Reshape", weight, [blocks, -1, rows, 1, columns]), on_diagonal)
        W = g("Reshape", W, [blocks, NH // blocks * rows, -1])
        return g("Transpose", W, perm=[0, 2, 1])

    W = g("Concat", *(dense(each.params["weight"]) for each in maps), axis=2)
    y = g("MatMul", by_head(g, x, blocks), W)
    if "bias" not in maps[0].params:
        return y
    b = [g("Reshape", each.params["bias"], [blocks, 1, -1]) for each in maps]
    return g("Add", y, g("Concat", *b, axis=2))


def normed(g: Graph, x: Name, norm: Norm) -> Name:
    """Add a norm of x (B, T, ·), or of each head of x (B, NH, T, ·).

    ε of LayerNormalization is a float32, too narrow for float64.
    """
    p, eps, shape = norm.params, float(norm.eps), [norm.num_heads, 1, norm.head_dim]
    gain: Any = p.get("weight", np.ones(norm.in_features))
    if "weight" in p and norm.residual_weight:
        gain = g("Add", gain, 1.0)
    if not norm.centred or g.float == TensorProto.DOUBLE:
        y = g("Sub", x, g("ReduceMean", x, [-1])) if norm.centred else x
        y = g("Div", y, g("Sqrt", g("Add", g("ReduceMean", g("Mul", y, y), [-1]), eps)))
        y = g("Mul", y, g("Reshape", gain, shape))
    elif norm.num_heads == 1:
        y = g("LayerNormalization", x, gain, epsilon=eps)
    else:
        y = g("LayerNormalization", x, np.ones(norm.head_dim), epsilon=eps)
        y = g("Mul", y, g("Reshape", gain, shape))
    return g("Add", y, g("Reshape", p["bias"], shape)) if "bias" in p else y


def capped(g: Graph, x: Name, cap: float | None) -> Name:
    """Add a soft cap a tanh(x / a) if there is one."""
    return x if cap is None else g("Mul", g("Tanh", g("Div", x, float(cap))), float(cap))


def silu(g: Graph, x: Name) -> Name:
    """Add x σ(x)."""
    return g("Mul", x, g("Sigmoid", x))


def gelu(g: Graph, x: Name, slope: Name) -> Name:
    """Add x/2 (1 + slope)."""
    return g("Mul", g("Mul", x, 0.5), g("Add", slope, 1.0))


def gelu_tanh(g: Graph, x: Name) -> Name:
    """Add the approximation of GELU by a tanh."""
    cube = g("Mul", g("Mul", x, x), x)
    inner = g("Mul", g("Add", x, g("Mul", cube, 0.044715)), (2 / np.pi) ** 0.5)
    return gelu(g, x, g("Tanh", inner))


def selu(g: Graph, x: Name) -> Name:
    """Add SELU; the factors of Selu are float32."""
    below = g("Mul", g("Sub", g("Exp", g("Min", x, 0.0)), 1.0), ALPHA)
    return g("Mul", g("Add", g("Relu", x), below), SCALE)


ACTIVATIONS: dict[str, Callable[[Graph, Name], Name]] = {
    "gelu": lambda g, x: gelu(g, x, g("Erf", g("Div", x, 2**0.5))),
    "gelu_tanh": gelu_tanh,
    "relu": lambda g, x: g("Relu", x),
    "relu^2": lambda g, x: g("Mul", *[g("Relu", x)] * 2),
    "sigmoid": lambda g, x: g("Sigmoid", x),
    "swish": silu,
    "selu": selu,
}
"""Activations of a feed-forward layer."""
