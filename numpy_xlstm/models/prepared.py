"""Generation, one token at a time: what depends on the weights alone is computed once.

A prepared model is the same model over other parts. Its layers run their own ``compute``, with
T = 1; their linear maps have the weights laid out for one row, and nothing is kept for a backward.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np

from numpy_xlstm.cells.gates import root
from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.kernels.headwise import join_blocks, join_heads, split_heads
from numpy_xlstm.kernels.mlstm.recurrent import steps
from numpy_xlstm.layers import HeadwiseLinear, Linear, LinearGroup
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.layers.rnn_base import TorchLayer
from numpy_xlstm.models.large_block import xLSTMLargeLayer
from numpy_xlstm.models.mlstm_layer import mLSTMLayer
from numpy_xlstm.numerics import Array, clip, log_sigmoid, maximum, modulus, underflow_is_zero


class PreparedModel:
    """A language model ready to go on token by token, with copies of its weights.

    What is written into the parameters of the model afterwards does not count.
    """

    def __init__(self, model: Any) -> None:
        model = model.with_params(model.params)  # of which each part below takes a copy
        head = prepared(model.head)  # no part of the model where it is tied
        self._model = prepared(model)
        self._model.head = head

    @underflow_is_zero
    def step(self, tokens: IndexArray, state: Any) -> tuple[Array, Any]:
        """Map one token of each row and the state before it to logits and the state after it.

        The tokens are integers (B,), from 0 to V − 1. Logits (B, V) and state are those of
        ``model(tokens[:, None], state)``, to rounding; the state before is not changed. Nothing is
        checked: use a state that the model has returned, or its ``init_state``.
        """
        logits, state, _ = self._model.compute(tokens[:, None], state)
        return logits[:, 0], state


def prepared(module: Any) -> Any:
    """Change a module to one for x (B, 1, D), or return what stands in for its ``compute``."""
    if isinstance(module, Linear):
        return prepared_linear(module)
    if isinstance(module, LinearGroup):
        return prepared_group(module)
    if isinstance(module, HeadwiseLinear):
        return prepared_headwise(module)
    if isinstance(module, TorchLayer):
        layer = module.sequence()
        return layer.with_params({name: array.copy() for name, array in layer.params.items()})
    if isinstance(module, mLSTMLayer | xLSTMLargeLayer):
        module.memory = mlstm_step
    module.copy_params()
    for name in module.parts:
        part = getattr(module, name)
        several = isinstance(part, list)
        setattr(module, name, [prepared(each) for each in part] if several else prepared(part))
    return module


def prepared_linear(linear: Linear) -> Any:
    """W transposed, as rows times a matrix are faster than a matrix times columns."""
    W, b = linear.params["weight"].T.copy(), copied_bias(linear)
    return SimpleNamespace(compute=lambda x: ((x[:, 0] @ W + b)[:, None], None))


def copied_bias(linear: Linear | HeadwiseLinear) -> Any:
    """A copy of the bias, or 0 without one."""
    return linear.params["bias"].copy() if "bias" in linear.params else 0


def prepared_group(group: LinearGroup) -> Any:
    """One matrix for all maps."""
    W = np.concatenate(group.views("weight")).T.copy()
    b = np.concatenate(group.views("bias")) if "bias" in group.linears[0].params else 0

    def compute(x: Array) -> tuple[list[Array], None]:
        y = (x[:, 0] @ W + b)[:, None]
        return [y[..., part] for part in group.slices], None

    return SimpleNamespace(compute=compute)


def prepared_headwise(linear: HeadwiseLinear) -> Any:
    """Narrow blocks joined."""
    W = join_blocks(linear.params["weight"]).swapaxes(1, 2).copy()
    b, NH = copied_bias(linear), len(W)
    return SimpleNamespace(compute=lambda x: (join_heads(split_heads(x, NH) @ W) + b, None))


def mlstm_step(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: mLSTMState,
    eps: float = 1e-6,
    chunk_size: int = 1,
) -> tuple[Array, mLSTMState, None]:
    """``form.forward`` for T = 1, without the copies that n as a column of C asks for."""
    C, n, m = state
    q, k, v = (split_heads(array, i.shape[-1]) for array in (q, k, v))
    k = k * (1 / root(k.shape[-1], k))
    log_f, log_i, before = log_sigmoid(f[:, 0]), i[:, 0], m
    m = maximum(log_f + before, log_i)
    log_i, log_f = log_i - m, log_f - (m - before)
    num, C, _unused = steps(q, k, v, log_i[..., None], log_f[..., None], C)
    n = np.exp(log_f)[..., None] * n + np.exp(log_i)[..., None] * k[:, :, 0]
    den = maximum(modulus(np.vecdot(q[:, :, 0], n)), np.exp(-clip(m))) + eps
    return join_heads(num / den[..., None, None]), mLSTMState(C, n, m), None
