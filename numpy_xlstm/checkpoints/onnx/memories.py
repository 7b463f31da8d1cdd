"""Recurrences of sLSTM, mLSTM and LSTM with a projection as ONNX graphs.

The equations and their names are those of the cells. A state of zeros is the empty state. Inputs
and outputs of sLSTM and mLSTM are (B, NH, T, ·), and T is 1 within a step.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from numpy_xlstm.checkpoints.onnx.graph import Body, Graph, Name
from numpy_xlstm.checkpoints.onnx.maps import log_sigmoid, sigmoid
from numpy_xlstm.numerics.activations import lowest

CHUNK = 64
"""Largest number of steps in a chunk of mLSTM."""

END = 2**62
"""End of a slice that contains all further entries."""

Result = tuple[Name, Any]
"""Names of the outputs and of the state after them."""


def log_gate(g: Graph, x: Name, gate: str) -> Name:
    """Add the log of a gate: log σ(x), or x."""
    return x if gate == "exp" else log_sigmoid(g, x)


def transposed(g: Graph, x: Name) -> Name:
    """Exchange the last two of four axes."""
    return g("Transpose", x, perm=[0, 1, 3, 2])


def each_step(g: Graph, body: Body, states: Sequence[Name], x: Name) -> tuple[Sequence[Name], Name]:
    """Apply a body to each step of a sequence. States, too, are (B, NH, 1, ·)."""
    if g.step:
        after, (y,) = body(g, states, [x])
        return after, y
    after, (y,) = g.scan(body, states, [g("Unsqueeze", x, [3])])
    return after, g("Squeeze", y, [3])


def slstm_step(g: Graph, gates: Sequence[Name], memory: Sequence[Name]) -> list[Name]:
    """Add one step of sLSTM: ĩ, log f, z̃, õ and the memory (c, n, m) to h and the next memory."""
    (i, log_f, z, o), (c, n, m) = gates, memory
    A = g("Add", log_f, m)
    m = g("Max", A, i)
    i, f = g("Exp", g("Sub", i, m)), g("Exp", g("Sub", A, m))
    c = g("Add", g("Mul", f, c), g("Mul", i, g("Tanh", z)))
    n = g("Add", g("Mul", f, n), i)
    return [g("Mul", sigmoid(g, o), g("Div", c, n)), c, n, m]


def slstm(g: Graph, pre: Name, R: Name, state: Any, NH: int, forget_gate: str) -> Result:
    """Add an sLSTM that computes h from W x + b (B, NH, T, 4·DH) and R (NH, DH, 4·DH)."""

    def body(g: Graph, state: Sequence[Name], xs: Sequence[Name]) -> Any:
        h, *memory = state
        i, f, z, o = g.split(g("Add", xs[0], g("MatMul", h, R)), 4)
        after = slstm_step(g, (i, log_gate(g, f, forget_gate), z, o), memory)
        return after, after[:1]

    h, c, n, m = (g("Reshape", part, [0, NH, 1, -1]) for part in state)
    m = g("Where", g("Equal", n, 0.0), -np.inf, m)
    after, h = each_step(g, body, [h, c, n, m], pre)
    return h, type(state)(*(g("Reshape", part, [0, -1]) for part in after))


def mlstm_step(g: Graph, xs: Sequence[Name], memory: Sequence[Name], eps: float) -> list[Name]:
    """Add one step of mLSTM: q, k/√DK, v, log i, log f and the memory to h and the next memory."""
    (q, k, v, log_i, log_f), (C, *normaliser) = xs, memory
    if normaliser:
        A, (n, m) = g("Add", log_f, normaliser[1]), normaliser
        m = g("Max", A, log_i)
        log_i, log_f = g("Sub", log_i, m), g("Sub", A, m)
    w, f = g("Mul", g("Exp", log_i), k), g("Exp", log_f)
    C = g("Add", g("Mul", f, C), g("MatMul", transposed(g, w), v))
    h = g("MatMul", q, C)
    if not normaliser:
        return [h, C]
    n = g("Add", g("Mul", f, n), w)
    return [g("Div", h, denominator(g, g("MatMul", q, transposed(g, n)), m, eps)), C, n, m]


def denominator(g: Graph, qn: Name, m: Name, eps: Any) -> Name:
    """Add max(|q·n|, e^−m) + ε, without overflow."""
    limit = -float(lowest(g.dtype))
    floor = g("Exp", g("Neg", g("Clip", m, -limit, limit)))
    return g("Add", g("Max", g("Abs", qn), floor), eps)


def mlstm(
    g: Graph,
    inputs: Sequence[Name],
    state: Any,
    eps: float,
    gates: tuple[str, str] = ("exp", "sigmoid"),
) -> Result:
    """Add an mLSTM that computes h: one step, or a scan over chunks.

    ``inputs`` are q, k/√DK, v, ĩ and f̃, and ``gates`` are the activations of both gates.
    """
    *qkv, i, f = inputs
    xs = [*qkv, log_gate(g, i, gates[0]), log_gate(g, f, gates[1])]
    C, n, m = state
    memory = [C]
    if n is not None:  # zeros are the empty state
        n, m = g("Unsqueeze", n, [2]), g("Unsqueeze", m, [2, 3])
        largest = g("ReduceL1", g("Concat", n, m, axis=-1), [-1])
        memory += [n, g("Where", g("Equal", largest, 0.0), -np.inf, m)]
    h, C, *after = (mlstm_step if g.step else chunkwise)(g, xs, memory, eps)
    if after:
        n, m = g("Squeeze", after[0], [2]), g("Squeeze", after[1], [2, 3])
    return h, type(state)(C, n, m)


def chunkwise(g: Graph, xs: Sequence[Name], memory: Sequence[Name], eps: float) -> list[Name]:
    """Add a scan over chunks of :data:`CHUNK` steps.

    Steps that fill the last chunk write nothing and forget nothing: log i = −inf and log f = 0.
    """
    T = g.root.length
    L = g("Min", T, [CHUNK])
    count = g("Div", g("Sub", g("Add", T, L), [1]), L)
    pads = g("Concat", [0] * 6, g("Sub", g("Mul", count, L), T), [0], axis=0)
    shape = g("Concat", [0, 0], count, L, [-1], axis=0)
    fills = 0.0, 0.0, 0.0, -np.inf, 0.0
    cut = [g("Reshape", g("Pad", x, pads, fill), shape) for x, fill in zip(xs, fills, strict=True)]
    ones = g("Expand", 1.0, g("Concat", L, L, axis=0))
    past = g("Cast", g("Trilu", ones, np.array(0), upper=0), to=TensorProto.DOUBLE)
    masks = g("Trilu", past, np.array(-1), upper=0), g("Log", past)  # of steps s < t and s > t

    def body(g: Graph, state: Sequence[Name], xs: Sequence[Name]) -> Any:
        return mlstm_chunk(g, state, xs, masks, eps)

    after, (h,) = g.scan(body, memory, cut)
    shape = g("Concat", g("Shape", h, start=0, end=2), [-1], g("Shape", h, start=4), axis=0)
    return [g("Slice", g("Reshape", h, shape), [0], T, [2]), *after]


def mlstm_chunk(
    g: Graph,
    memory: Sequence[Name],
    xs: Sequence[Name],
    masks: tuple[Name, Name],
    eps: float,
) -> tuple[list[Name], list[Name]]:
    """Add all steps of a chunk at once.

    Logs are summed in float64, and only over the needed terms, because differences of long sums
    lose digits.
    """
    (q, k, v, log_i, log_f), (C, *normaliser), (earlier, future) = xs, memory, masks
    log_i, log_f = (g("Cast", x, to=TensorProto.DOUBLE) for x in (log_i, log_f))

    def last(x: Name) -> Name:
        return g("Slice", x, [-1], [END], [2])

    def narrow(x: Name) -> Name:
        return g("Cast", x, to=g.float)

    # logs of the weights of step s, and of the state, at step t
    D = g("CumSum", g("Mul", log_f, earlier), np.array(2))
    D = g("Add", D, transposed(g, log_i))
    A, m = g("CumSum", log_f, np.array(2)), ""
    if normaliser:
        A = g("Add", A, g("Cast", normaliser[1], to=TensorProto.DOUBLE))
        m = g("Max", g("ReduceMax", g("Add", D, future), [-1]), A)
        D, A = g("Sub", D, m), g("Sub", A, m)
    past = g("Trilu", narrow(D), upper=0)  # e^−∞ would be slow in ONNX Runtime
    weights, a = g("Trilu", g("Exp", past), upper=0), g("Exp", narrow(A))
    kT = transposed(g, k)
    S = g("Mul", g("MatMul", q, kT), weights)
    qa = g("Mul", q, a)
    h = g("Add", g("MatMul", S, v), g("MatMul", qa, C))
    w, f = last(weights), last(a)
    C = g("Add", g("Mul", f, C), g("MatMul", g("Mul", kT, w), v))
    if not normaliser:
        return [C], [h]
    n = normaliser[0]
    qn = g("Add", g("ReduceSum", S, [-1]), g("MatMul", qa, transposed(g, n)))
    n = g("Add", g("Mul", f, n), g("MatMul", w, k))
    m = narrow(m)
    return [C, n, last(m)], [g("Div", h, denominator(g, qn, m, eps))]


def lstmp(g: Graph, pre: Name, R: Name, W_hr: Name, state: Any) -> Result:
    """Add an LSTM with a projection over W x + b (B, 1, T, 4·H), as ONNX has no operator for it."""

    def body(g: Graph, state: Sequence[Name], xs: Sequence[Name]) -> Any:
        h, c = state
        i, f, z, o = g.split(g("Add", xs[0], g("MatMul", h, R)), 4)
        c = g("Add", g("Mul", sigmoid(g, f), c), g("Mul", sigmoid(g, i), g("Tanh", z)))
        h = g("MatMul", g("Mul", sigmoid(g, o), g("Tanh", c)), W_hr)
        return [h, c], [h]

    after, h = each_step(g, body, [g("Reshape", part, [0, 1, 1, -1]) for part in state], pre)
    return h, type(state)(*(g("Reshape", part, [0, -1]) for part in after))
