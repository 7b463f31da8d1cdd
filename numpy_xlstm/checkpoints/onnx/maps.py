"""Linear maps, norms and activations as ONNX graphs, and the order of axes of heads."""

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

import numpy as np
from onnx import TensorProto

from numpy_xlstm.checkpoints.onnx.graph import Graph, Name
from numpy_xlstm.layers import HeadwiseLinear, Linear
from numpy_xlstm.layers.activations import ALPHA, CUBIC, SCALE, SLOPE
from numpy_xlstm.layers.norms import Norm

WIDTH = 32
"""Largest width of the joined blocks of a block-diagonal matrix."""


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


def sigmoid(g: Graph, x: Name) -> Name:
    """Add σ(x) with all digits where it is small, unlike Sigmoid in ONNX Runtime."""
    return g("Div", 1.0, one_plus_exp_minus(g, x))


def one_plus_exp_minus(g: Graph, x: Name) -> Name:
    """Add 1 + e^−x, which may overflow to infinity."""
    return g("Add", g("Exp", g("Neg", x)), 1.0)


def log_sigmoid(g: Graph, x: Name) -> Name:
    """Add log σ(x) = min(x, 0) − log(1 + e) with e = e^−|x|, with all digits also where e is small.

    Softplus in ONNX Runtime loses them, and has no float64 kernel. Let d = (1 + e) − 1 as computed,
    with its rounding error. Then e · log(1 + e) / d is log(1 + e) to the last digits.
    """
    e = g("Exp", g("Neg", g("Abs", x)))
    more = g("Add", e, 1.0)
    d = g("Sub", more, 1.0)
    log = g("Where", g("Equal", d, 0.0), e, g("Mul", g("Log", more), g("Div", e, d)))
    return g("Sub", g("Min", x, 0.0), log)


def silu(g: Graph, x: Name) -> Name:
    """Add x σ(x)."""
    return g("Div", x, one_plus_exp_minus(g, x))


def gelu(g: Graph, x: Name) -> Name:
    """Add x/2 (1 + erf(x / √2))."""
    return g("Mul", g("Mul", x, 0.5), g("Add", g("Erf", g("Div", x, 2**0.5)), 1.0))


def gelu_tanh(g: Graph, x: Name) -> Name:
    """Add the approximation x σ(2u) of GELU."""
    cube = g("Mul", g("Mul", x, x), x)
    twice_u = g("Mul", g("Add", x, g("Mul", cube, CUBIC)), SLOPE)
    return g("Div", x, one_plus_exp_minus(g, twice_u))


def selu(g: Graph, x: Name) -> Name:
    """Add SELU; ONNX's Selu has its factors only in float32."""
    t = g("Tanh", g("Mul", g("Min", x, 0.0), 0.5))  # eˣ − 1 is 2t / (1 − t), with all digits
    below = g("Mul", g("Div", t, g("Sub", 1.0, t)), 2 * ALPHA)
    return g("Mul", g("Add", g("Relu", x), below), SCALE)


ACTIVATIONS: dict[str, Callable[[Graph, Name], Name]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": lambda g, x: g("Relu", x),
    "relu^2": lambda g, x: g("Mul", *[g("Relu", x)] * 2),
    "sigmoid": sigmoid,
    "swish": silu,
    "selu": selu,
}
"""Activations of a feed-forward layer."""
