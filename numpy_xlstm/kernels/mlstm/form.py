"""mLSTM in any of its forms, without checks: what layers and models call."""

from functools import partial

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.kernels.mlstm.chunkwise import CHUNK_SIZE, chunks
from numpy_xlstm.kernels.mlstm.recurrent import steps
from numpy_xlstm.kernels.mlstm.shared import Cache, run
from numpy_xlstm.kernels.mlstm.shared import run_backward as backward
from numpy_xlstm.numerics import Array

__all__ = ["FORMS", "backward", "forward"]

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
    state: mLSTMState,
    *,
    form: str = "auto",
    lengths: Array | None = None,
    chunk_size: int = CHUNK_SIZE,
    eps: float = 1e-6,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, Cache]:
    """Run mLSTM in a form: h, the state after the last step, and what :func:`backward` needs.

    Arguments are those of :func:`mlstm_chunkwise`, and not checked.
    """
    T, DK, DV = *q.shape[2:], v.shape[-1]
    if form == "auto":
        short = T < 2 or (T == 2 and DK * DV <= NARROW)
        form = "recurrent" if short else "chunkwise"
    size = 0 if form == "parallel" else chunk_size
    core = steps if form == "recurrent" else partial(chunks, chunk_size=size)
    return run(core, (q, k, v, i, f), state, lengths, (eps, forget_gate, input_gate))
