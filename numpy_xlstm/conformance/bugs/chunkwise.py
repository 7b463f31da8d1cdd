"""Known mistakes in the chunkwise form of mLSTM: what the specification, step by step, has none of.

They are planted in the kernel, which is then the port, and runs in NumPy.
"""

from typing import Any
from unittest.mock import patch

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.conformance.bugs.bug import Bug
from numpy_xlstm.conformance.subjects import Arrays, Options, part
from numpy_xlstm.kernels.mlstm import chunkwise, matrices, shared
from numpy_xlstm.trees import leaves

SUBJECTS = ("mlstm.chunkwise", "mlstmsig.chunkwise")
OPTIONS = "chunk_size", "eps", "forget_gate", "input_gate"


def kernel(options: Options, inputs: Arrays) -> Arrays:
    """What the kernel gives."""
    state, dstate = (_memory(part(inputs, name)) for name in ("state", "dstate"))
    known: Any = {name: options[name] for name in OPTIONS if name in options}
    q, k, v, i, f = (inputs[name] for name in "qkvif")
    lengths = inputs.get("lengths")
    with patch.object(shared, "compiled", return_value=False):
        h, final, cache = chunkwise.mlstm_chunkwise(q, k, v, i, f, state, lengths=lengths, **known)
        *found, dstate0 = chunkwise.mlstm_chunkwise_backward(inputs["dy"], cache, dstate)
    gradients = dict(zip(("dq", "dk", "dv", "di", "df"), found, strict=True))
    return {"y": h, **dict(leaves("final", final)), **gradients, **dict(leaves("dstate0", dstate0))}


def _memory(state: Arrays) -> mLSTMState | None:
    return mLSTMState(state["C"], state.get("n"), state.get("m")) if state else None


def of_kernel(name: str, place: Any, change: str, description: str) -> Bug:
    """A mistake in one function of the kernel."""
    return Bug(name, SUBJECTS, (place,), change, description, port=kernel)


BUGS = [
    of_kernel(
        "chunk-boundary-off-by-one",
        matrices.weights,
        """
        - w_state[...] = np.exp(log_f.cumsum(-1))
        + w_state[...] = np.exp(log_f.cumsum(-1) - log_f)
        """,
        "a chunkwise form that lets the state before a chunk decay by one step too few",
    ),
    of_kernel(
        "own-step-masked",
        matrices.weights,
        """
        - np.copyto(D, -np.inf, where=below_diagonal(L).T)
        + np.copyto(D, -np.inf, where=~below_diagonal(L))
        """,
        "a chunkwise form whose mask hides the diagonal, so that no step sees what it writes",
    ),
    of_kernel(
        "own-step-forgotten",
        matrices.weights,
        """
        - after = below_diagonal(L)
        + after = np.tri(L, dtype=bool)
        """,
        "a chunkwise form in which what a step writes decays by its own forget gate",
    ),
    of_kernel(
        "future-not-masked",
        matrices.weights,
        """
        - np.copyto(D, -np.inf, where=below_diagonal(L).T)
        """,
        "a chunkwise form without the causal mask",
    ),
    of_kernel(
        "state-before-chunk-not-read",
        chunkwise.through_chunks,
        """
        - plus(scores @ v[g], scaled(q[g], w_state[g]) @ C[g], num[g])
        + num[g] = scores @ v[g]
        """,
        "a chunkwise form whose outputs see their own chunk alone",
    ),
    of_kernel(
        "state-between-chunks-not-decayed",
        matrices.decayed,
        """
        - return C * w_state[..., -1, None, None]
        + return C
        """,
        "a chunkwise form whose state does not decay from chunk to chunk, forward or backward",
    ),
    of_kernel(
        "forget-gradient-without-state",
        matrices.gate_gradients,
        """
        - db[..., -1] += w_state[..., -1] * through.sum(-1)
        """,
        "a backward whose forget gates get no gradient from the state that passes through a chunk",
    ),
    of_kernel(
        "input-gradient-without-state",
        matrices.gate_gradients,
        """
        - dD[..., -1, :] += last
        """,
        "a backward whose gates get no gradient from what a chunk writes into the state",
    ),
    of_kernel(
        "key-gradient-without-state",
        chunkwise.backward_through_chunks,
        """
        - plus(transposed(dS) @ q, dk_last, dk[g])
        + dk[g] = transposed(dS) @ q
        """,
        "a backward whose keys get no gradient from what a chunk writes into the state",
    ),
    of_kernel(
        "query-gradient-without-state",
        chunkwise.backward_through_chunks,
        """
        - plus(dS @ k, dq_state, dq[g])
        + dq[g] = dS @ k
        """,
        "a backward whose queries get no gradient from the state before a chunk",
    ),
]
