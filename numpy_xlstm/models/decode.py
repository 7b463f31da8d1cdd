"""Decode steps: generation of one token at a time.

Everything that depends only on the weights is computed beforehand. A decode step maps rows x (B, D)
and the state before it to rows and the state after it. Up to rounding it equals ``compute`` of the
same layer for T = 1, and has the same equations. It keeps no residuals, and its weights are
arranged for single rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from numpy_xlstm.cells.mlstm import EPS, mLSTMState
from numpy_xlstm.kernels.maps import normalise, silu
from numpy_xlstm.kernels.mlstm.step import mlstm_step
from numpy_xlstm.kernels.slstm import slstm_step
from numpy_xlstm.layers import ACTIVATIONS, CausalConv1d, HeadwiseLinear, Linear, Recurrent
from numpy_xlstm.layers.activations import soft_cap
from numpy_xlstm.layers.base import RunOptions
from numpy_xlstm.layers.embedding import IndexArray, check_indices
from numpy_xlstm.layers.linear import join_blocks, linear_forward
from numpy_xlstm.layers.norms import Norm
from numpy_xlstm.models.blocks import BlockStack, ResidualBlock
from numpy_xlstm.models.large import xLSTMLargeLayer
from numpy_xlstm.models.mlstm_layer import mLSTMBlockState, mLSTMLayer
from numpy_xlstm.models.slstm_layer import B_NAME, R_NAME, sLSTMBlockState, sLSTMLayer
from numpy_xlstm.numerics import Array, check_batch, own_error_state, sigmoid
from numpy_xlstm.validation import checked_state

JOINED = 2**20
"""Largest size in bytes of matrices that are joined to one, which saves calls."""

Map = Callable[[Array], Array]
Step = Callable[[Array, Any], tuple[Array, Any]]


class PreparedModel:
    """A language model prepared for decode steps.

    Small matrices are copied and large ones are not, so the parameters of the model must not change
    while it is in use.
    """

    def __init__(self, model: Any) -> None:
        self._embedding = model.embedding
        self._body, self._head, self._cap = prepared(model.body), affine(model.head), model.cap
        self.init_state = model.init_state

    def step(self, tokens: IndexArray, state: Any) -> tuple[Array, Any]:
        """Map tokens (B,), from 0 to V − 1, and a state of B rows to logits (B, V) and a new state.

        They equal ``model(tokens[:, None], state)`` up to rounding. The given state is not changed.
        """
        check_indices("tokens", tokens, self._embedding.num_embeddings, shape=("B",))
        check_batch("tokens", tokens)
        return self.compute(tokens, checked_state(self, state, len(tokens)))

    @own_error_state
    def compute(self, tokens: IndexArray, state: Any) -> tuple[Array, Any]:
        """Do the same as :meth:`step` without checks."""
        h, state = self._body(self._embedding.compute(tokens)[0], state)
        logits = self._head(h)
        return soft_cap(logits, self._cap)[0], state


def prepared(layer: Any) -> Step:
    """Return the decode step of a layer: by default, its ``compute`` with copied parameters.

    For a subclass that overrides ``compute``, the step calls that ``compute``.
    """
    for kind, prepare in PREPARED.items():
        if isinstance(layer, kind) and type(layer).compute is kind.compute:
            return prepare(layer)
    layer = layer.over({name: array.copy() for name, array in layer.params.items()})

    def step(x: Array, state: Any) -> tuple[Array, Any]:
        y, state, _ = layer.compute(x[:, None], state, RunOptions())
        return y[:, 0], state

    return step


def _prepared_stack(stack: BlockStack) -> Step:
    blocks = [prepared(block) for block in stack.blocks]
    norm: Map = (lambda x: x) if stack.norm is None else normed(stack.norm)

    def step(x: Array, state: Any) -> tuple[Array, Any]:
        after = []
        for block, before in zip(blocks, state, strict=True):
            x, now = block(x, before)
            after.append(now)
        return norm(x), tuple(after)

    return step


def _prepared_block(block: ResidualBlock) -> Step:
    norm, layer, ffn = normed(block.norm), prepared(block.layer), block.ffn

    def step(x: Array, state: Any) -> tuple[Array, Any]:
        y, state = layer(norm(x), state)
        return x + y, state

    if ffn is None or block.ffn_norm is None:
        return step
    ffn_norm, up, down = normed(block.ffn_norm), affine(*ffn.up.linears), affine(ffn.proj_down)
    activation, U = ACTIVATIONS[ffn.act_fn].forward, ffn.proj_up_dim

    def step_and_feed(x: Array, state: Any) -> tuple[Array, Any]:
        x, state = step(x, state)
        both = up(ffn_norm(x))
        return x + down(activation(both[:, :U])[0] * both[:, U:]), state

    return step_and_feed


def _prepared_mlstm(layer: mLSTMLayer) -> Step:
    I, NH = layer.inner, layer.config.num_heads  # noqa: E741
    up, down, conv = affine(layer.proj_up), affine(layer.proj_down), convolution(layer.conv1d)
    maps = layer.q_proj, layer.k_proj, layer.v_proj
    W = np.stack([join_blocks(part.params["weight"]).swapaxes(1, 2) for part in maps])
    b = np.stack([bias_of(part) for part in maps])[:, None]
    gates, outnorm = affine(*layer.gates.linears), normed(layer.outnorm)
    skip = layer.params["learnable_skip"].copy()

    def step(u: Array, state: mLSTMBlockState) -> tuple[Array, mLSTMBlockState]:
        pz = up(u)
        p, z = pz[:, :I], pz[:, I:]
        convolved, conv_state = conv(p, state.conv)
        active = silu(convolved)[0]
        heads = np.concatenate((active, active, p)).reshape(3, len(u), *W.shape[1:3]).swapaxes(1, 2)
        qkv = (heads @ W).swapaxes(1, 2).reshape(3, len(u), I) + b
        q, k, v = qkv.reshape(3, len(u), NH, -1)
        pre = gates(qkv.swapaxes(0, 1).reshape(len(u), -1))
        h, memory = mlstm_step(q, k, v, pre[:, :NH], pre[:, NH:], state.mlstm, EPS)
        read = outnorm(h) + skip * active
        return down(read * silu(z)[0]), mLSTMBlockState(conv_state, memory)

    return step


def _prepared_large(layer: xLSTMLargeLayer) -> Step:
    config = layer.config
    NH, QK, V = config.num_heads, config.qk_dim, config.v_dim
    stops = np.cumsum([QK, QK, V, V]).tolist()
    maps = affine(*layer.qkvo.linears, *layer.gates.linears)
    norm, out = normed(layer.multihead_norm), affine(layer.out_proj)

    def step(x: Array, state: mLSTMState) -> tuple[Array, mLSTMState]:
        q, k, v, o, pre = np.split(maps(x), stops, axis=-1)
        pre, _ = soft_cap(pre, config.gate_soft_cap)
        q, k, v = (a.reshape(len(x), NH, -1) for a in (q, k, v))
        h, state = mlstm_step(q, k, v, pre[:, :NH], pre[:, NH:], state, config.eps)
        return out(sigmoid(o) * norm(h)), state

    return step


def _prepared_slstm(layer: sLSTMLayer) -> Step:
    conv = None if layer.conv1d is None else convolution(layer.conv1d)
    norm, b = normed(layer.group_norm), layer.params[B_NAME].reshape(4, 1, -1).copy()
    NH, DH = layer.config.num_heads, layer.head_dim
    maps = np.zeros((NH, 3, DH, 4, DH), layer.dtype)  # from a, x and h to i, f, z and o
    for gate, linear in enumerate(layer.gates):
        maps[:, gate // 2, :, gate] = linear.params["weight"].swapaxes(1, 2)
    maps[:, 2] = layer.params[R_NAME].reshape(NH, 4, DH, DH).transpose(0, 3, 1, 2)
    W = maps.reshape(NH, 3 * DH, 4 * DH)

    def step(x: Array, state: sLSTMBlockState) -> tuple[Array, sLSTMBlockState]:
        conv_state, active = None, x
        if conv is not None:
            convolved, conv_state = conv(x, state.conv)
            active = silu(convolved)[0]
        seen = [a.reshape(-1, NH, DH) for a in (active, x, state.slstm.h)]
        pre = np.concatenate(seen, axis=-1).swapaxes(0, 1) @ W
        pre = pre.reshape(NH, -1, 4, DH).transpose(2, 1, 0, 3).reshape(4, *x.shape)
        memory = slstm_step(pre + b, state.slstm)
        return norm(memory.h), sLSTMBlockState(conv_state, memory)

    return step


PREPARED: dict[type[Recurrent], Callable[[Any], Step]] = {
    BlockStack: _prepared_stack,
    ResidualBlock: _prepared_block,
    mLSTMLayer: _prepared_mlstm,
    xLSTMLargeLayer: _prepared_large,
    sLSTMLayer: _prepared_slstm,
}
"""Layers that have a decode step of their own."""


def affine(*maps: Linear) -> Map:
    """Join several maps of one x into a function that returns the concatenated outputs.

    Large matrices are used as they are, and small ones are joined to one.
    """
    if sum(linear.params["weight"].nbytes for linear in maps) > JOINED:
        return lambda x: linear_forward(x, maps)
    W = np.concatenate([part.params["weight"] for part in maps]).T.astype(maps[0].dtype, "C")
    b = np.concatenate([bias_of(part) for part in maps])
    return (lambda x: x @ W + b) if b.any() else (lambda x: x @ W)


def bias_of(linear: Linear | HeadwiseLinear) -> Array:
    """Return the bias, or zeros if there is none."""
    return linear.params.get("bias", np.zeros(linear.out_features, linear.dtype))


def normed(norm: Norm) -> Map:
    """Return a norm per head as a function."""
    gain: Any = 1.0 if norm.gain is None else norm.gain.copy()
    bias = norm.params["bias"].copy() if "bias" in norm.params else None
    width = norm.head_dim

    def apply(x: Array) -> Array:
        heads, _ = normalise(x.reshape(-1, width), norm.eps, norm.centred)
        y: Array = heads.reshape(x.shape) * gain
        return y if bias is None else y + bias

    return apply


def convolution(conv: CausalConv1d) -> Step:
    """Return the decode step of a causal convolution, whose state is its last inputs."""
    taps, bias = conv.taps, conv.params["conv.bias"].copy()

    def step(x: Array, state: Array) -> tuple[Array, Array]:
        seen = np.concatenate((state, x[:, None]), axis=1)
        return (seen * taps).sum(axis=1) + bias, seen[:, 1:]

    return step
