"""Layers as ONNX graphs: one function for each layer, in the order of its equations."""

from collections.abc import Sequence
from functools import partial, reduce, singledispatch
from typing import Any

import numpy as np

from numpy_xlstm.cells.elman import ElmanCell
from numpy_xlstm.cells.gru import GRUCell
from numpy_xlstm.cells.gru_original import OriginalGRUCell
from numpy_xlstm.cells.lstm import LSTMCell
from numpy_xlstm.cells.lstmp import LSTMPCell
from numpy_xlstm.cells.mlstm import EPS, mLSTMCell
from numpy_xlstm.cells.peephole import PeepholeLSTMCell
from numpy_xlstm.cells.slstm import sLSTMCell
from numpy_xlstm.checkpoints.onnx.graph import Graph, Name
from numpy_xlstm.checkpoints.onnx.maps import (
    ACTIVATIONS,
    added,
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
from numpy_xlstm.layers.rnn_base import RNNBase, TorchSequence
from numpy_xlstm.layers.sequence import SequenceLayer
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.models.blocks import BlockStack, ResidualBlock
from numpy_xlstm.models.large_block import xLSTMLargeLayer
from numpy_xlstm.models.mlstm_layer import mLSTMBlockState, mLSTMLayer
from numpy_xlstm.models.slstm_layer import B_NAME, R_NAME, sLSTMBlockState, sLSTMLayer


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
    x, z = g.split(affine(g, u, layer.proj_up), 2)
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


@_emit.register(Stacked)
@_emit.register(RNNBase)
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
def _(layer: TorchSequence, g: Graph, x: Name, state: Any) -> Result:
    cell = layer.current_cell()
    for name, terms in layer.terms.items():
        if len(terms) > 1:
            g.parameter(cell.params[name], g("Add", *(layer.params[term] for term in terms)))
    return emit(cell, g, x, state)


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
