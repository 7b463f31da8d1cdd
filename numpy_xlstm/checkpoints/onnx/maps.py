"""Linear maps, norms and activations as ONNX graphs, and the order of axes of heads."""

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

import numpy as np
from onnx import TensorProto

from numpy_xlstm.checkpoints.onnx.graph import Tensor
from numpy_xlstm.layers import HeadwiseLinear, Linear
from numpy_xlstm.layers.activations import ALPHA, CUBIC, SCALE, SLOPE
from numpy_xlstm.layers.norms import Norm

WIDTH = 32
"""Largest width of the joined blocks of a block-diagonal matrix."""


def by_head(x: Tensor, NH: int) -> Tensor:
    """Map (B, T, ·), head after head, to (B, NH, T, ·)."""
    if x.graph.step:
        return x.reshape(0, NH, 1, -1)
    return x.reshape(0, 0, NH, -1).transpose(0, 2, 1, 3)


def heads(qkv: Sequence[Tensor], gates: Tensor, NH: int, QK: int) -> list[Tensor]:
    """Map q, k and v (B, T, ·) and the gates (B, T, 2·NH) to the inputs of an mLSTM."""
    q, k, v = (by_head(x, NH) for x in qkv)
    return [q, k * (QK // NH) ** -0.5, v, *by_head(gates, 2 * NH).split(2, axis=1)]


def merged(x: Tensor) -> Tensor:
    """Map (B, NH, T, ·) to (B, T, ·)."""
    if x.graph.step:
        return x.reshape(0, 1, -1)
    return x.transpose(0, 2, 1, 3).reshape(0, 0, -1)


def gates_by_head(rows: Tensor, NH: int, *shape: int) -> Tensor:
    """Reorder rows from gate by gate (all heads in each) to head by head (four gates in each)."""
    return rows.reshape(4, NH, -1).transpose(1, 0, 2).reshape(*shape)


def mapped(x: Tensor, W: Any, b: Any) -> Tensor:
    """Add W x + b for the last axis of x; b may be None."""
    y = x @ x.graph.tensor(W).transpose(1, 0)
    return y if b is None else y + b


def affine(x: Tensor, *maps: Linear) -> Tensor:
    """Add several maps of one x as one product; the outputs are concatenated."""
    g = x.graph
    W = g("Concat", *(linear.params["weight"] for linear in maps), axis=0)
    if not any("bias" in linear.params for linear in maps):
        return mapped(x, W, None)
    b = [linear.params.get("bias", np.zeros(linear.out_features)) for linear in maps]
    return mapped(x, W, g("Concat", *b, axis=0))


def headwise(x: Tensor, *maps: HeadwiseLinear, blocks: int = 0) -> Tensor:
    """Add maps of each head of x as one product, to (B, blocks, T, ·).

    Each block has the outputs of one head, or of several narrow ones.
    """
    g, (NH, rows, columns) = x.graph, maps[0].params["weight"].shape
    blocks = blocks or NH // gcd(NH, max(1, WIDTH // max(rows, columns)))
    on_diagonal = np.eye(NH // blocks)[:, None, :, None]

    def dense(weight: Any) -> Tensor:
        W = g.tensor(weight).reshape(blocks, -1, rows, 1, columns) * on_diagonal
        return W.reshape(blocks, NH // blocks * rows, -1).transpose(0, 2, 1)

    y = by_head(x, blocks) @ g(
        "Concat", *(dense(linear.params["weight"]) for linear in maps), axis=2
    )
    if "bias" not in maps[0].params:
        return y
    b = [g.tensor(linear.params["bias"]).reshape(blocks, 1, -1) for linear in maps]
    return y + g("Concat", *b, axis=2)


def normed(x: Tensor, norm: Norm) -> Tensor:
    """Add a norm of x (B, T, ·), or of each head of x (B, NH, T, ·).

    ε of LayerNormalization is a float32, too narrow for float64.
    """
    g, p, eps, shape = x.graph, norm.params, float(norm.eps), (norm.num_heads, 1, norm.head_dim)
    gain = g.tensor(p.get("weight", np.ones(norm.in_features)))
    if "weight" in p and norm.residual_weight:
        gain = gain + 1.0
    if norm.centred and g.float != TensorProto.DOUBLE:
        whole = norm.num_heads == 1
        y = x("LayerNormalization", gain if whole else np.ones(norm.head_dim), epsilon=eps)
        y = y if whole else y * gain.reshape(*shape)
    else:
        y = x - x("ReduceMean", [-1]) if norm.centred else x
        y = y / ((y * y)("ReduceMean", [-1]) + eps)("Sqrt") * gain.reshape(*shape)
    return y + g.tensor(p["bias"]).reshape(*shape) if "bias" in p else y


def capped(x: Tensor, cap: float | None) -> Tensor:
    """Add a soft cap a tanh(x / a) if there is one."""
    return x if cap is None else (x / float(cap))("Tanh") * float(cap)


def sigmoid(x: Tensor) -> Tensor:
    """Add σ(x) with all digits where it is small, unlike Sigmoid in ONNX Runtime."""
    return x.graph("Div", 1.0, one_plus_exp_minus(x))


def one_plus_exp_minus(x: Tensor) -> Tensor:
    """Add 1 + e^−x, which may overflow to infinity."""
    return (-x)("Exp") + 1.0


def log_sigmoid(x: Tensor) -> Tensor:
    """Add log σ(x) = min(x, 0) − log(1 + e) with e = e^−|x|, with all digits also where e is small.

    Softplus in ONNX Runtime loses them, and has no float64 kernel. Let d = (1 + e) − 1 as computed,
    with its rounding error. Then e · log(1 + e) / d is log(1 + e) to the last digits.
    """
    e = (-x("Abs"))("Exp")
    more = e + 1.0
    d = more - 1.0
    log = d("Equal", 0.0)("Where", e, more("Log") * (e / d))
    return x("Min", 0.0) - log


def silu(x: Tensor) -> Tensor:
    """Add x σ(x)."""
    return x / one_plus_exp_minus(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """Add the approximation x σ(2u) of GELU."""
    twice_u = (x + x * x * x * CUBIC) * SLOPE
    return x / one_plus_exp_minus(twice_u)


def selu(x: Tensor) -> Tensor:
    """Add SELU; ONNX's Selu has its factors only in float32."""
    t = (x("Min", 0.0) * 0.5)("Tanh")  # eˣ − 1 is 2t / (1 − t), with all digits
    return (x("Relu") + t / (-t + 1.0) * (2 * ALPHA)) * SCALE


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: x * 0.5 * ((x / 2**0.5)("Erf") + 1.0),
    "gelu_tanh": gelu_tanh,
    "relu": lambda x: x("Relu"),
    "relu^2": lambda x: x("Relu") * x("Relu"),
    "sigmoid": sigmoid,
    "swish": silu,
    "selu": selu,
}
"""Activations of a feed-forward layer."""
