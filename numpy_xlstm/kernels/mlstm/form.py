"""mLSTM in any form, over arrays with all heads in one axis, without validation.

Layers and models call these functions.
"""

from functools import partial

from numpy_xlstm.cells.mlstm import EPS, mLSTMState
from numpy_xlstm.kernels.headwise import join_heads, split_heads
from numpy_xlstm.kernels.mlstm.chunkwise import CHUNK_SIZE, chunks
from numpy_xlstm.kernels.mlstm.recurrent import steps
from numpy_xlstm.kernels.mlstm.shared import Cache, Gradients, run, run_backward
from numpy_xlstm.numerics import Array

FORMS = ("auto", "recurrent", "parallel", "chunkwise")
"""Values of the option ``form`` of a layer."""

NARROW = 2**14
"""Largest DK·DV for which two steps are faster in the recurrent form than in a chunk."""


def forward(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: mLSTMState,
    *,
    form: str = "auto",
    lengths: Array | None = None,
    chunk_size: int = CHUNK_SIZE,
    eps: float = EPS,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, Cache]:
    """Run an mLSTM over q, k, v (B, T, NH·n) and i, f (B, T, NH); h has the shape of v.

    The other arguments are as in :func:`mlstm_chunkwise`.
    """
    q, k, v = (split_heads(array, i.shape[-1]) for array in (q, k, v))
    i, f = i.swapaxes(1, 2), f.swapaxes(1, 2)
    T, DK, DV = *q.shape[2:], v.shape[-1]
    if form == "auto":
        short = T < 2 or (T == 2 and DK * DV <= NARROW)
        form = "recurrent" if short else "chunkwise"
    size = 0 if form == "parallel" else chunk_size
    core = steps if form == "recurrent" else partial(chunks, chunk_size=size)
    h, state, cache = run(core, (q, k, v, i, f), state, lengths, (eps, forget_gate, input_gate))
    return join_heads(h), state, cache


def backward(dh: Array, cache: Cache, dstate: mLSTMState) -> Gradients:
    """Return the gradients of q, k, v, i, f and of the first state, in their shapes."""
    dq, dk, dv, di, df, dstate0 = run_backward(split_heads(dh, cache.q.shape[1]), cache, dstate)
    dq, dk, dv = (join_heads(array) for array in (dq, dk, dv))
    return dq, dk, dv, di.swapaxes(1, 2), df.swapaxes(1, 2), dstate0
