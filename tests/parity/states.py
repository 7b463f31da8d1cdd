"""States of the official models as states of this package, and back.

xLSTM Large divides q by √DK there and k here: its C and n are √DK times as large there. An empty
memory has m = 0 there, and m = −∞ here.
"""

from typing import Any

import numpy as np

from numpy_xlstm import mLSTMState, sLSTMState, xLSTMLarge
from numpy_xlstm.models import mLSTMBlockState, sLSTMBlockState
from numpy_xlstm.numerics import Array


def to_official(model: Any, state: Any) -> dict[Any, Any]:
    """Return ``{0: (C, n, m), …}`` for xLSTM Large, and ``{"block_0": …}`` for other models."""
    if isinstance(model, xLSTMLarge):
        roots = [np.sqrt(memory.C.shape[2]) for memory in state]
        return {
            number: (C * root, n * root, finite(m)[..., None])
            for number, ((C, n, m), root) in enumerate(zip(state, roots, strict=True))
        }
    return {f"block_{number}": block_to_official(part) for number, part in enumerate(state)}


def block_to_official(part: Any) -> dict[str, Any]:
    """Convert the state of a block; the official convolution has a first entry that is ignored."""
    conv = None
    if part.conv is not None:
        conv = (np.concatenate((np.zeros_like(part.conv[:, :1]), part.conv), axis=1),)
    if isinstance(part, mLSTMBlockState):
        C, n, m = part.mlstm
        memory = C, np.asarray(n)[..., None], finite(m)[..., None, None]
        return {"mlstm_state": memory, "conv_state": conv}
    h, c, n, m = part.slstm
    return {"conv_state": conv, "slstm_state": np.stack((h, c, n, finite(m)))}


def from_official(model: Any, state: Any, *, keep_m: bool = False) -> Any:
    """Return a state of the official model as ours; with ``keep_m``, an empty mLSTM keeps m = 0."""
    parts = [state[key] for key in sorted(state, key=lambda key: int(str(key).split("_")[-1]))]
    if isinstance(model, xLSTMLarge):
        memories = []
        for part in parts:
            C, n, m = (np.asarray(array, model.dtype) for array in part)
            root = C.dtype.type(C.shape[2] ** 0.5)
            memories.append(memory_of(C / root, n / root, m[..., 0], keep_m))
        return tuple(memories)
    return tuple(block_from_official(part, keep_m) for part in parts)


def block_from_official(part: dict[str, Any], keep_m: bool) -> Any:
    conv: Any = None if part["conv_state"] is None else np.asarray(part["conv_state"][0])[:, 1:]
    if "mlstm_state" in part:
        C, n, m = map(np.asarray, part["mlstm_state"])
        return mLSTMBlockState(conv, memory_of(C, n[..., 0], m[..., 0, 0], keep_m))
    h, c, n, m = np.asarray(part["slstm_state"])
    return sLSTMBlockState(conv, sLSTMState(h, c, n, np.where(n == 0, -np.inf, m)))


def memory_of(C: Array, n: Array, m: Array, keep_m: bool) -> mLSTMState:
    empty = ~(n.any(axis=2) | C.any(axis=(2, 3))) & (not keep_m)
    return mLSTMState(C, n, np.where(empty, -np.inf, m).astype(C.dtype))


def finite(m: Any) -> Array:
    return np.where(np.isneginf(m), 0, m)
