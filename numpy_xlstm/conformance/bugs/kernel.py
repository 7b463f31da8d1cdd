"""The chunkwise and parallel kernels of mLSTM as a port with known mistakes.

Mistakes of these forms are changes of the kernel, because the specification goes step by step.
"""

from typing import Any

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.conformance.subjects import Arrays, Options, part
from numpy_xlstm.kernels import mlstm
from numpy_xlstm.trees import leaves

SUBJECTS = ("mlstm.chunkwise", "mlstmsig.chunkwise", "mlstm.parallel", "mlstmsig.parallel")
OPTIONS = "chunk_size", "eps", "forget_gate", "input_gate"


def run_kernel(options: Options, inputs: Arrays) -> Arrays:
    """Return the results of the kernel.

    Without a chunk size, all steps are one chunk.
    """
    state, dstate = (_memory(part(inputs, name)) for name in ("state", "dstate"))
    known: Any = {name: options[name] for name in OPTIONS if name in options}
    q, k, v, i, f = (inputs[name] for name in "qkvif")
    known.setdefault("chunk_size", max(1, q.shape[2]))
    lengths = inputs.get("lengths")
    h, final, cache = mlstm.mlstm_chunkwise(q, k, v, i, f, state, lengths=lengths, **known)
    *found, dstate0 = mlstm.mlstm_chunkwise_backward(inputs["dy"], cache, dstate)
    gradients = dict(zip(("dq", "dk", "dv", "di", "df"), found, strict=True))
    return {"y": h, **dict(leaves("final", final)), **gradients, **dict(leaves("dstate0", dstate0))}


def _memory(state: Arrays) -> mLSTMState | None:
    return mLSTMState(state["C"], state.get("n"), state.get("m")) if state else None
