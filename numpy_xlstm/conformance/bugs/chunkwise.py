"""Known mistakes in the chunkwise form of mLSTM: what the specification, step by step, has none of.

They are planted in the kernel, which is then the port.
"""

from typing import Any

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.conformance.bugs.bug import Bug
from numpy_xlstm.conformance.subjects import Arrays, Options, part
from numpy_xlstm.kernels.mlstm import chunkwise
from numpy_xlstm.trees import leaves

SUBJECTS = ("mlstm.chunkwise", "mlstmsig.chunkwise")
OPTIONS = "chunk_size", "eps", "forget_gate", "input_gate"


def kernel(options: Options, inputs: Arrays) -> Arrays:
    """What the kernel gives."""
    state, dstate = (_memory(part(inputs, name)) for name in ("state", "dstate"))
    known: Any = {name: options[name] for name in OPTIONS if name in options}
    q, k, v, i, f = (inputs[name] for name in "qkvif")
    lengths = inputs.get("lengths")
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
        chunkwise.group_forward,
        """
        - w_state = np.exp(log_f.cumsum(-1)).astype(q.dtype)
        + w_state = np.exp(log_f.cumsum(-1) - log_f).astype(q.dtype)
        """,
        "a chunkwise form that lets the state before a chunk decay by one step too few",
    ),
    of_kernel(
        "own-step-masked",
        chunkwise.exponents,
        """
        - D += np.where(np.tri(L, dtype=bool), 0, -np.inf).astype(D.real.dtype)
        + D += np.where(np.tri(L, k=-1, dtype=bool), 0, -np.inf).astype(D.real.dtype)
        """,
        "a chunkwise form whose mask hides the diagonal, so that no step sees what it writes",
    ),
    of_kernel(
        "own-step-forgotten",
        chunkwise.exponents,
        """
        - D = np.where(np.tri(L, k=-1, dtype=bool), log_f[..., :, None], 0)
        + D = np.where(np.tri(L, dtype=bool), log_f[..., :, None], 0)
        """,
        "a chunkwise form in which what a step writes decays by its own forget gate",
    ),
    of_kernel(
        "future-not-masked",
        chunkwise.exponents,
        """
        - D += np.where(np.tri(L, dtype=bool), 0, -np.inf).astype(D.real.dtype)
        """,
        "a chunkwise form without the causal mask",
    ),
    of_kernel(
        "state-before-chunk-not-read",
        chunkwise.group_forward,
        """
        - num += (q * w_state[..., None]) @ C_before
        """,
        "a chunkwise form whose outputs see their own chunk alone",
    ),
    of_kernel(
        "state-between-chunks-not-decayed",
        chunkwise._recur,
        """
        - after = w_state[:, :, g, -1, None, None] * C
        + after = C.copy()
        """,
        "a chunkwise form whose state does not decay from chunk to chunk, forward or backward",
    ),
    of_kernel(
        "forget-gradient-without-state",
        chunkwise.group_backward,
        """
        - db[..., -1] += w_state[..., -1] * np.einsum("...ij,...ij->...", C, dC_after)
        """,
        "a backward whose forget gates get no gradient from the state that passes through a chunk",
    ),
    of_kernel(
        "input-gradient-without-state",
        chunkwise.group_backward,
        """
        - dD[..., -1, :] += dot(k, dk_last)[..., 0]
        """,
        "a backward whose gates get no gradient from what a chunk writes into the state",
    ),
    of_kernel(
        "key-gradient-without-state",
        chunkwise.group_backward,
        """
        - dk += dk_last
        """,
        "a backward whose keys get no gradient from what a chunk writes into the state",
    ),
    of_kernel(
        "query-gradient-without-state",
        chunkwise.group_backward,
        """
        - dq += w_state[..., None] * dq_state
        """,
        "a backward whose queries get no gradient from the state before a chunk",
    ),
]
