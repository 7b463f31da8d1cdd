"""mLSTM in any of its forms, without checks: what layers and models call."""

from numpy_xlstm.kernels.mlstm.chunkwise import CHUNK_SIZE, run_chunks
from numpy_xlstm.kernels.mlstm.recurrent import steps
from numpy_xlstm.kernels.mlstm.shared import Cache, Gradients, run, run_backward
from numpy_xlstm.numerics import Array
from numpy_xlstm.spec.mlstm import mLSTMState

FORMS = ("auto", "recurrent", "parallel", "chunkwise")
"""The forms that a layer can take."""

NARROW = 2**14
"""Up to this DK·DV, two steps are faster in the recurrent form than in a chunk."""


def forward(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: mLSTMState | None = None,
    *,
    form: str = "auto",
    lengths: Array | None = None,
    chunk_size: int = CHUNK_SIZE,
    eps: float = 1e-6,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, Cache]:
    """Run mLSTM in a form: h, the state after the last step, and the cache of :func:`backward`.

    Arguments are those of :func:`mlstm_chunkwise`, and not checked.
    """
    T, DK, DV = *q.shape[2:], v.shape[-1]
    options = eps, forget_gate, input_gate
    short = T < 2 or (T == 2 and DK * DV <= NARROW)
    if form == "recurrent" or (form == "auto" and short):
        return run(steps, q, k, v, i, f, state, lengths, options)
    L = max(1, T) if form == "parallel" else chunk_size
    return run_chunks(q, k, v, i, f, state, lengths, options, chunk_size=L)


def backward(dh: Array, cache: Cache, dstate: mLSTMState | None = None) -> Gradients:
    """Go back in the form that the forward took: dq, dk, dv, di, df and dstate0."""
    return run_backward(dh, cache, dstate)
