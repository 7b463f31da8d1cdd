"""Recurrences of sLSTM, mLSTM and LSTM with a projection as ONNX graphs.

The equations and their names are those of the cells. A state of zeros is the empty state. Inputs
and outputs of sLSTM and mLSTM are (B, NH, T, ·), and T is 1 within a step.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from numpy_xlstm.checkpoints.onnx.graph import Body, Tensor
from numpy_xlstm.checkpoints.onnx.maps import log_sigmoid, sigmoid
from numpy_xlstm.numerics.activations import lowest

CHUNK = 64
"""Largest number of steps in a chunk of mLSTM."""

END = 2**62
"""End of a slice that contains all further entries."""

Result = tuple[Tensor, Any]
"""The outputs, and the state after them."""

Tensors = Sequence[Tensor]


def log_gate(x: Tensor, gate: str) -> Tensor:
    """Add the log of a gate: log σ(x), or x."""
    return x if gate == "exp" else log_sigmoid(x)


def transposed(x: Tensor) -> Tensor:
    """Exchange the last two of four axes."""
    return x.transpose(0, 1, 3, 2)


def each_step(body: Body, state: Any, NH: int, pre: Tensor) -> Result:
    """Apply a body to each step of a sequence (B, NH, T, ·), with states (B, NH, 1, ·)."""
    states = [part.reshape(0, NH, 1, -1) for part in state]
    if pre.graph.step:
        after, (y,) = body(states, [pre])
    else:
        after, (y,) = pre.graph.scan(body, states, [pre("Unsqueeze", [3])])
        y = y("Squeeze", [3])
    return y, type(state)(*(part.reshape(0, -1) for part in after))


def slstm(pre: Tensor, R: Tensor, state: Any, NH: int, forget_gate: str) -> Result:
    """Add an sLSTM that computes h from W x + b (B, NH, T, 4·DH) and R (NH, DH, 4·DH)."""

    def body(state: Tensors, xs: Tensors) -> tuple[Tensors, Tensors]:
        h, c, n, m = state
        i, f, z, o = (xs[0] + h @ R).split(4)
        A = log_gate(f, forget_gate) + m
        m = A("Max", i)
        i, f = (i - m)("Exp"), (A - m)("Exp")
        c = f * c + i * z("Tanh")
        n = f * n + i
        h = sigmoid(o) * (c / n)
        return [h, c, n, m], [h]

    empty = state.n("Equal", 0.0)
    return each_step(body, state._replace(m=empty("Where", -np.inf, state.m)), NH, pre)


def lstmp(pre: Tensor, R: Tensor, W_hr: Tensor, state: Any) -> Result:
    """Add an LSTM with a projection over W x + b (B, 1, T, 4·H), as ONNX has no operator for it."""

    def body(state: Tensors, xs: Tensors) -> tuple[Tensors, Tensors]:
        h, c = state
        i, f, z, o = (xs[0] + h @ R).split(4)
        c = sigmoid(f) * c + sigmoid(i) * z("Tanh")
        h = (sigmoid(o) * c("Tanh")) @ W_hr
        return [h, c], [h]

    return each_step(body, state, 1, pre)


def mlstm(
    inputs: Tensors, state: Any, eps: float, gates: tuple[str, str] = ("exp", "sigmoid")
) -> Result:
    """Add an mLSTM that computes h: one step, or a scan over chunks.

    ``inputs`` are q, k/√DK, v, ĩ and f̃, and ``gates`` are the activations of both gates.
    """
    *qkv, i, f = inputs
    xs = [*qkv, log_gate(i, gates[0]), log_gate(f, gates[1])]
    C, n, m = state
    memory = [C]
    if n is not None:  # zeros are the empty state
        n, m = n("Unsqueeze", [2]), m("Unsqueeze", [2, 3])
        largest = C.graph("Concat", n, m, axis=-1)("ReduceL1", [-1])
        memory += [n, largest("Equal", 0.0)("Where", -np.inf, m)]
    h, C, *after = (mlstm_step if C.graph.step else chunkwise)(xs, memory, eps)
    if after:
        n, m = after[0]("Squeeze", [2]), after[1]("Squeeze", [2, 3])
    return h, type(state)(C, n, m)


def mlstm_step(xs: Tensors, memory: Tensors, eps: float) -> list[Tensor]:
    """Add one step of mLSTM: q, k/√DK, v, log i, log f and the memory to h and the next memory."""
    (q, k, v, log_i, log_f), (C, *normaliser) = xs, memory
    if normaliser:
        A, (n, m) = log_f + normaliser[1], normaliser
        m = A("Max", log_i)
        log_i, log_f = log_i - m, A - m
    w, f = log_i("Exp") * k, log_f("Exp")
    C = f * C + transposed(w) @ v
    h = q @ C
    if not normaliser:
        return [h, C]
    n = f * n + w
    return [h / denominator(q @ transposed(n), m, eps), C, n, m]


def denominator(qn: Tensor, m: Tensor, eps: float) -> Tensor:
    """Add max(|q·n|, e^−m) + ε, without overflow."""
    limit = -float(lowest(m.graph.dtype))
    return qn("Abs")("Max", (-m("Clip", -limit, limit))("Exp")) + eps


def chunkwise(xs: Tensors, memory: Tensors, eps: float) -> list[Tensor]:
    """Add a scan over chunks of :data:`CHUNK` steps.

    Steps that fill the last chunk write nothing and forget nothing: log i = −inf and log f = 0.
    """
    g, T = xs[0].graph, xs[0]("Shape", start=2, end=3)
    L = T("Min", [CHUNK])
    count = (T + L - [1]) / L
    pads = g("Concat", [0] * 6, count * L - T, [0], axis=0)
    shape = g("Concat", [0, 0], count, L, [-1], axis=0)
    fills = 0.0, 0.0, 0.0, -np.inf, 0.0
    cut = [x("Pad", pads, fill)("Reshape", shape) for x, fill in zip(xs, fills, strict=True)]
    ones = g("Expand", 1.0, g("Concat", L, L, axis=0))
    past = ones("Trilu", np.array(0), upper=0)("Cast", to=TensorProto.DOUBLE)
    masks = past("Trilu", np.array(-1), upper=0), past("Log")  # of steps s < t and s > t
    after, (h,) = g.scan(lambda state, xs: mlstm_chunk(state, xs, masks, eps), memory, cut)
    shape = g("Concat", h("Shape", start=0, end=2), [-1], h("Shape", start=4), axis=0)
    return [h("Reshape", shape)("Slice", [0], T, [2]), *after]


def mlstm_chunk(
    memory: Tensors, xs: Tensors, masks: tuple[Tensor, Tensor], eps: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Add all steps of a chunk at once.

    Logs are summed in float64, and only over the needed terms, because differences of long sums
    lose digits.
    """
    (q, k, v, log_i, log_f), (C, *normaliser), (earlier, future) = xs, memory, masks
    log_i, log_f = (x("Cast", to=TensorProto.DOUBLE) for x in (log_i, log_f))

    def last(x: Tensor) -> Tensor:
        return x("Slice", [-1], [END], [2])

    def narrow(x: Tensor) -> Tensor:
        return x("Cast", to=x.graph.float)

    # logs of the weights of step s, and of the state, at step t
    D = (log_f * earlier)("CumSum", np.array(2)) + transposed(log_i)
    A = log_f("CumSum", np.array(2))
    if normaliser:
        A = A + normaliser[1]("Cast", to=TensorProto.DOUBLE)
        m = (D + future)("ReduceMax", [-1])("Max", A)
        D, A = D - m, A - m
    past = narrow(D)("Trilu", upper=0)  # e^−∞ would be slow in ONNX Runtime
    weights, a = past("Exp")("Trilu", upper=0), narrow(A)("Exp")
    kT, qa = transposed(k), q * a
    S = (q @ kT) * weights
    h = S @ v + qa @ C
    w, f = last(weights), last(a)
    C = f * C + (kT * w) @ v
    if not normaliser:
        return [C], [h]
    n, m = normaliser[0], narrow(m)
    qn = S("ReduceSum", [-1]) + qa @ transposed(n)
    n = f * n + w @ k
    return [C, n, last(m)], [h / denominator(qn, m, eps)]
