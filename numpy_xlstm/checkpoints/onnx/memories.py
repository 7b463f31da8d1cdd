"""Recurrences of sLSTM, mLSTM and LSTM with a projection as ONNX graphs.

The equations and their names are those of the cells. A state of zeros is the empty state.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from numpy_xlstm.checkpoints.onnx.graph import Graph, Name
from numpy_xlstm.numerics.activations import lowest

CHUNK = 64
"""Largest number of steps in a chunk of mLSTM."""

END = 2**62
"""End of a slice that contains all further entries."""


Result = tuple[Name, Any]
"""Names of the outputs and of the state after them."""


def log_gate(g: Graph, x: Name, gate: str) -> Name:
    """Add the log of a gate: log σ(x), or x. ONNX Runtime has no Softplus in float64."""
    if gate == "exp":
        return x
    if g.float == TensorProto.FLOAT:
        return g("Neg", g("Softplus", g("Neg", x)))
    return g("Sub", g("Min", x, 0.0), g("Log", g("Add", g("Exp", g("Neg", g("Abs", x))), 1.0)))


def sigmoid(g: Graph, x: Name) -> Name:
    """Add σ(x) with all digits of a closed gate, which Sigmoid in ONNX Runtime loses."""
    return g("Div", 1.0, g("Add", g("Exp", g("Neg", x)), 1.0))


def floor(g: Graph, m: Name) -> Name:
    """Add e^−m, the least denominator of mLSTM, without overflow."""
    limit = -float(lowest(g.dtype))
    return g("Exp", g("Neg", g("Clip", m, -limit, limit)))


def slstm_step(
    g: Graph, i: Name, log_f: Name, z: Name, o: Name, c: Name, n: Name, m: Name
) -> list[Name]:
    """One step of sLSTM: ĩ, log f, z̃, õ and the memory (c, n, m) to h and the next memory."""
    A = g("Where", g("Equal", n, 0.0), -np.inf, g("Add", log_f, m))
    m = g("Max", A, i)
    i, f = g("Exp", g("Sub", i, m)), g("Exp", g("Sub", A, m))
    c = g("Add", g("Mul", f, c), g("Mul", i, g("Tanh", z)))
    n = g("Add", g("Mul", f, n), i)
    return [g("Mul", g("Sigmoid", o), g("Div", c, n)), c, n, m]


def slstm(
    g: Graph, pre: Name, R: Name, state: Any, heads: tuple[int, int], forget_gate: str
) -> Result:
    """Add an sLSTM to h (B, T, H), over W x + b (T, B, NH, 4·DH) and with R (NH, DH, 4·DH).

    Both are gate by gate in each head; ``heads`` are NH and DH.
    """

    def body(g: Graph, state: Sequence[Name], xs: Sequence[Name]) -> Any:
        h, *memory = state
        Rh = g("Squeeze", g("MatMul", g("Unsqueeze", h, [-2]), R), [-2])
        i, f, z, o = g.split(g("Add", xs[0], Rh), 4)
        inputs = i, log_gate(g, f, forget_gate), z, o, *memory
        after = g.function("sLSTM", slstm_step, inputs, ("h", "next_c", "next_n", "next_m"))
        return after, after[:1]

    H = heads[0] * heads[1]
    before = [g("Reshape", part, [0, *heads]) for part in state]
    after, (h,) = g.scan(body, before, [pre])
    h = g("Transpose", g("Reshape", h, [0, 0, H]), perm=[1, 0, 2])
    return h, type(state)(*(g("Reshape", part, [0, H]) for part in after))


def mlstm_step(
    g: Graph,
    q: Name,
    k: Name,
    v: Name,
    i: Name,
    log_f: Name,
    C: Name,
    n: Name,
    m: Name,
    eps: Name,
) -> list[Name]:
    """One step of mLSTM: q, k/√DK, v, ĩ, log f, the memory (C, n, m) and ε to h and the memory."""
    A = g("Add", log_f, m)
    m = g("Max", A, i)
    i, f = g("Exp", g("Sub", i, m)), g("Exp", g("Sub", A, m))
    w, f = g("Mul", g("Unsqueeze", i, [-1]), k), g("Unsqueeze", f, [-1])
    C = written(g, C, f, w, v)
    n = g("Add", g("Mul", f, n), w)
    qn = g("ReduceSum", g("Mul", q, n), [-1], keepdims=1)
    den = g("Add", g("Max", g("Abs", qn), g("Unsqueeze", floor(g, m), [-1])), eps)
    return [g("Div", read(g, q, C), den), C, n, m]


def mlstm_sigmoid_step(
    g: Graph, q: Name, k: Name, v: Name, log_i: Name, log_f: Name, C: Name
) -> list[Name]:
    """One step of mLSTM with a sigmoid input gate: q, k/√DK, v, log i, log f and C to h and C."""
    w = g("Mul", g("Unsqueeze", g("Exp", log_i), [-1]), k)
    C = written(g, C, g("Unsqueeze", g("Exp", log_f), [-1]), w, v)
    return [read(g, q, C), C]


def written(g: Graph, C: Name, f: Name, w: Name, v: Name) -> Name:
    """Add f C + w vᵀ."""
    wv = g("Mul", g("Unsqueeze", w, [-1]), g("Unsqueeze", v, [-2]))
    return g("Add", g("Mul", g("Unsqueeze", f, [-1]), C), wv)


def read(g: Graph, q: Name, C: Name) -> Name:
    """Add Cᵀ q."""
    return g("Squeeze", g("MatMul", g("Unsqueeze", q, [-2]), C), [-2])


def mlstm(
    g: Graph,
    qkv: Sequence[Name],
    i: Name,
    f: Name,
    state: Any,
    scale: float,
    eps: float,
    gates: tuple[str, str] = ("exp", "sigmoid"),
) -> Result:
    """Add an mLSTM to h (B, NH, T, DV): one step if there is only one, else a scan over chunks.

    q, k and v are (B, NH, T, ·), ĩ and f̃ (B, NH, T). ``scale`` is the factor of k, 1/√DK, and
    ``gates`` are the activations of the input gate and of the forget gate.
    """
    q, k, v = qkv
    xs = [q, g("Mul", k, scale), v, log_gate(g, i, gates[0]), log_gate(g, f, gates[1])]
    C, n, m = state
    memory: list[Any] = [C]
    if n is not None:  # zeros are the empty state
        none = g("Equal", g("ReduceMax", g("Abs", n), [-1], keepdims=0), 0.0)
        memory += [n, g("Where", g("And", none, g("Equal", m, 0.0)), -np.inf, m)]

    def one(g: Graph) -> list[Name]:
        inputs: list[Any] = [*(g("Squeeze", x, [2]) for x in xs), *memory]
        if n is None:
            h, *after = g.function("mLSTMsig", mlstm_sigmoid_step, inputs, ("h", "next_C"))
        else:
            outputs = "h", "next_C", "next_n", "next_m"
            h, *after = g.function("mLSTM", mlstm_step, [*inputs, eps], outputs)
        return [g("Unsqueeze", h, [2]), *after]

    if g.step:
        h, *after = one(g)
    else:
        single = g("Squeeze", g("Equal", g("Shape", q, start=2, end=3), [1]), [0])
        h, *after = g.branch(single, one, lambda g: chunkwise(g, xs, memory, eps))
    return h, type(state)(*after, *[None] * (3 - len(after)))


def chunkwise(g: Graph, xs: Sequence[Name], memory: Sequence[Name], eps: float) -> list[Name]:
    """Add a scan over chunks of :data:`CHUNK` steps.

    Steps that fill the last chunk write nothing and forget nothing: log i = −inf and log f = 0.
    """
    T = g("Shape", xs[0], start=2, end=3)
    L = g("Min", T, [CHUNK])
    count = g("Div", g("Sub", g("Add", T, L), [1]), L)
    missing = g("Sub", g("Mul", count, L), T)

    def chunks(x: Name, axes: int, fill: float) -> Name:
        zeros = np.zeros(axes - 3, np.int64)
        pads = g("Concat", np.zeros(axes + 2, np.int64), missing, zeros, axis=0)
        ends = [g("Shape", x, start=3)] if axes == 4 else []
        shape = g("Concat", g("Shape", x, start=0, end=2), count, L, *ends, axis=0)
        cut = g("Reshape", g("Pad", x, pads, fill), shape)
        return g("Transpose", cut, perm=[2, 0, 1, *range(3, axes + 1)])

    fills = (4, 0.0), (4, 0.0), (4, 0.0), (3, -np.inf), (3, 0.0)
    cut = [chunks(x, *fill) for x, fill in zip(xs, fills, strict=True)]
    after, (h,) = g.scan(lambda g, state, xs: mlstm_chunk(g, state, xs, eps), memory, cut)
    h = g("Transpose", h, perm=[1, 2, 0, 3, 4])  # (B, NH, chunks, L, DV)
    shape = g("Concat", g("Shape", h, start=0, end=2), [-1], g("Shape", h, start=4), axis=0)
    return [g("Slice", g("Reshape", h, shape), [0], T, [2]), *after]


def wide(g: Graph, x: Any) -> Name:
    """Add a conversion to float64."""
    return g("Cast", x, to=TensorProto.DOUBLE)


def mlstm_chunk(
    g: Graph, memory: Sequence[Name], xs: Sequence[Name], eps: float
) -> tuple[list[Name], list[Name]]:
    """Add all steps of a chunk at once.

    Sums of logs are float64, and sums of only the needed terms, as long sums and their differences
    lose digits.
    """
    (q, k, v, log_i, log_f), (C, *normaliser) = xs, memory
    log_i, log_f = wide(g, log_i), wide(g, log_f)

    def last(x: Name) -> Name:
        return g("Slice", x, [-1], [END], [2])

    L = g("Shape", q, start=2, end=3)
    ones = g("Expand", np.array(1), g("Concat", L, L, axis=0))
    earlier, past = (
        g("Cast", g("Trilu", ones, np.array(n), upper=0), to=TensorProto.BOOL) for n in (-1, 0)
    )
    terms = g("Where", earlier, g("Unsqueeze", log_f, [-1]), wide(g, 0.0))
    D = g("Add", g("CumSum", terms, np.array(2)), g("Unsqueeze", log_i, [-2]))
    D = g("Where", past, D, wide(g, -np.inf))  # log of the weight of step s at step t
    A, m = g("CumSum", log_f, np.array(2)), ""  # log of the weight of the state
    if normaliser:
        A = g("Add", A, g("Unsqueeze", wide(g, normaliser[1]), [-1]))
        m = g("Max", g("ReduceMax", D, [-1], keepdims=0), A)
        D, A = g("Sub", D, g("Unsqueeze", m, [-1])), g("Sub", A, m)
    weights, a = (g("Exp", g("Cast", x, to=g.float)) for x in (D, A))
    S = g("Mul", g("MatMul", q, g("Transpose", k, perm=[0, 1, 3, 2])), weights)
    h = g("Add", g("MatMul", S, v), g("Mul", g("Unsqueeze", a, [-1]), g("MatMul", q, C)))
    wk = g("Mul", k, g("Transpose", last(weights), perm=[0, 1, 3, 2]))
    f = last(a)
    written = g("MatMul", g("Transpose", wk, perm=[0, 1, 3, 2]), v)
    C = g("Add", g("Mul", g("Unsqueeze", f, [-1]), C), written)
    if not normaliser:
        return [C], [h]
    n = normaliser[0]
    qn = g("Mul", g("Unsqueeze", a, [-1]), g("MatMul", q, g("Unsqueeze", n, [-1])))
    qn = g("Abs", g("Add", qn, g("ReduceSum", S, [-1], keepdims=1)))
    m = g("Cast", m, to=g.float)
    den = g("Add", g("Max", qn, g("Unsqueeze", floor(g, m), [-1])), eps)
    n = g("Add", g("Mul", f, n), g("ReduceSum", wk, [2], keepdims=0))
    return [C, n, g("Squeeze", last(m), [-1])], [g("Div", h, den)]


def lstmp(g: Graph, pre: Name, R: Name, W_hr: Name, state: Any) -> Result:
    """Add an LSTM with a projection over W x + b (T, B, 4·H), as ONNX has no operator for it."""

    def body(g: Graph, state: Sequence[Name], xs: Sequence[Name]) -> Any:
        h, c = state
        gates = g("Add", xs[0], g("MatMul", h, R))
        i, f, z, o = g.split(gates, 4)
        kept, new = g("Mul", sigmoid(g, f), c), g("Mul", sigmoid(g, i), g("Tanh", z))
        c = g("Add", kept, new)
        h = g("MatMul", g("Mul", sigmoid(g, o), g("Tanh", c)), W_hr)
        return [h, c], [h]

    after, (h,) = g.scan(body, state, [pre])
    return g("Transpose", h, perm=[1, 0, 2]), type(state)(*after)
