"""Conversion of states from and to the official models.

Official states differ in scaling and in the empty memory. xLSTM Large, in
``xlstm`` and in transformers, and ``mlstm_kernels`` divide q by √DK, where the xLSTM paper and this
package divide k. Their C and n are therefore √DK times ours. An empty memory has m = 0 in the
official states, and m = −∞ here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.cells.slstm import sLSTMState
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.models import mLSTMBlockState, sLSTMBlockState
from numpy_xlstm.numerics import Array, check_bool, check_has
from numpy_xlstm.trees import leaves, rebuild
from numpy_xlstm.validation import check_like


def to_official_state(model: Any, state: Any) -> dict[Any, Any]:
    r"""Convert a state to the form of the official model.

    .. math:: C' = \sqrt{D_K} \, C, \quad n' = \sqrt{D_K} \, n \quad\text{(xLSTM Large)}, \qquad
              m' = 0 \text{ where } m = -\infty

    Parameters
    ----------
    model : xLSTMLarge, xLSTMLMModel or xLSTMBlockStack
        Model of the state.
    state : tuple
        State of the model.

    Returns
    -------
    dict
        For xLSTM Large ``{0: (C, n, m), 1: …}``, the state of ``xlstm``'s xLSTMLarge and the
        ``rnn_state`` of transformers' ``xLSTMCache``. For the others the state of their ``step``,
        ``{"block_0": {"mlstm_state": (C, n, m), "conv_state": (x,)}, …}``. Arrays are NumPy arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import xLSTMLarge, xLSTMLargeConfig
    >>> model = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9))
    >>> _, state = model(np.array([[1, 2, 3]]))
    >>> theirs = to_official_state(model, state)
    >>> [array.shape for array in theirs[0]]
    [(1, 2, 4, 8), (1, 2, 4), (1, 2, 1)]
    >>> back = from_official_state(model, theirs)
    >>> np.allclose(back[0].C, state[0].C, rtol=1e-15)
    True
    """
    check_has("model", model, "init_state")
    state = _checked(model, state)
    if isinstance(state[0], mLSTMState):
        return {n: _to_large(memory) for n, memory in enumerate(state)}
    return {f"block_{n}": _to_paper(part) for n, part in enumerate(state)}


def from_official_state(model: Any, state: Mapping[Any, Any], *, keep_m: bool = False) -> Any:
    """Convert a state of the official model, or from :func:`to_official_state`, to ours.

    Parameters
    ----------
    model, state
        As in :func:`to_official_state`. Arrays are any input of ``np.asarray``, such as tensors on
        the CPU.
    keep_m : bool
        Whether an mLSTM with an empty memory keeps m = 0. The official *steps* start with m = 0.
        The official sequences and this package start with m = −∞. The two results h differ by at
        most a relative ε e^m, where ε is the ``eps`` of the model, and m the larger stabiliser.

    Returns
    -------
    tuple
        The state, with copied arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import from_official_state, to_official_state, xLSTMLarge, xLSTMLargeConfig
    >>> model = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9))
    >>> _, state = model(np.array([[1, 2, 3]]))
    >>> back = from_official_state(model, to_official_state(model, state))
    >>> np.allclose(back[0].n, state[0].n, rtol=1e-15)
    True
    """
    check_bool("keep_m", keep_m)
    check_has("model", model, "init_state")
    expected = to_official_state(model, model.init_state(1))
    arrays = _like(expected, state, model.dtype)
    back = _from_large if isinstance(model.init_state(1)[0], mLSTMState) else _from_paper
    return tuple(back(part, keep_m) for part in arrays.values())


def _like(like: Any, given: Any, dtype: Any) -> Any:
    """Convert the given arrays, whose number of rows alone may differ from ``like``."""
    expected, arrays = dict(leaves("state", like)), dict(leaves("state", given))
    if arrays.keys() != expected.keys():
        names, got = ", ".join(expected), ", ".join(arrays) or "none"
        raise ShapeError(f"state: expected the arrays {names:.80}; got {got:.80}")
    for name, array in arrays.items():
        rows = 1 if name.endswith(".slstm_state") else 0
        shapes = [a.shape[:rows] + a.shape[rows + 1 :] for a in (array, expected[name])]
        if shapes[0] != shapes[1]:
            shape = expected[name].shape
            raise ShapeError(f"{name}: expected shape {shape} for one row; got {array.shape}")
    return rebuild(like, (np.array(arrays[name], dtype) for name in expected))


def _to_large(memory: mLSTMState) -> tuple[Array, ...]:
    C, n, m = memory.C, _there(memory.n), _there(memory.m)
    root = C.dtype.type(C.shape[2] ** 0.5)
    return C * root, n * root, _finite(m)[..., None]


def _from_large(part: tuple[Array, ...], keep_m: bool) -> mLSTMState:
    C, n, m = part
    root = C.dtype.type(C.shape[2] ** 0.5)
    return _memory(C / root, n / root, m[..., 0], keep_m)


def _to_paper(part: Any) -> dict[str, Any]:
    """Convert the state of a block; the official convolution has a first entry that is ignored."""
    conv = None
    if part.conv is not None:
        first = np.zeros((len(part.conv), 1, part.conv.shape[2]), part.conv.dtype)
        conv = (np.concatenate((first, part.conv), axis=1),)
    if isinstance(part, mLSTMBlockState):
        C, n, m = part.mlstm.C, _there(part.mlstm.n), _there(part.mlstm.m)
        return {"mlstm_state": (C, n[..., None], _finite(m)[..., None, None]), "conv_state": conv}
    h, c, n, m = part.slstm
    return {"conv_state": conv, "slstm_state": np.stack((h, c, n, _finite(m)))}


def _from_paper(part: dict[str, Any], keep_m: bool) -> Any:
    conv: Any = None if part["conv_state"] is None else part["conv_state"][0][:, 1:]
    if "mlstm_state" in part:
        C, n, m = part["mlstm_state"]
        return mLSTMBlockState(conv, _memory(C, n[..., 0], m[..., 0, 0], keep_m))
    h, c, n, m = part["slstm_state"]
    return sLSTMBlockState(conv, sLSTMState(h, c, n, np.where(n == 0, -np.inf, m).astype(m.dtype)))


def _memory(C: Array, n: Array, m: Array, keep_m: bool) -> mLSTMState:
    """Make a memory, with m = −∞ where it is empty."""
    empty = ~(n.any(axis=2) | C.any(axis=(2, 3))) & (not keep_m)
    return mLSTMState(C, n, np.where(empty, -np.inf, m).astype(C.dtype))


def _finite(m: Array) -> Array:
    return np.where(np.isneginf(m), 0, m).astype(m.dtype)


def _there(array: Array | None) -> Array:
    assert array is not None, "these models have an exponential input gate"
    return array


def _checked(model: Any, state: Any) -> Any:
    rows = next((len(a) for _, a in leaves("state", state) if np.ndim(a)), 1)
    return check_like("state", state, model.init_state(max(rows, 1)))
