"""The mLSTM layer of the xLSTM paper: up-projection, convolution, memory, gate, down-projection.

Derived in ``docs/blocks/mlstm-block.md``, whose tags are cited here.
"""

from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.mlstm import EPS, empty_memory, mLSTMState
from numpy_xlstm.kernels.mlstm import forms
from numpy_xlstm.kernels.mlstm.step import mlstm_step
from numpy_xlstm.layers import (
    ACTIVATIONS,
    CausalConv1d,
    HeadwiseLinear,
    Linear,
    LinearGroup,
    MultiHeadLayerNorm,
    Recurrent,
)
from numpy_xlstm.layers.activations import drop, drop_backward
from numpy_xlstm.layers.base import RunOptions, Step
from numpy_xlstm.layers.linear import bias_of, join_blocks, set_gate_biases
from numpy_xlstm.models.layer_configs import mLSTMLayerConfig
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    check_kind,
    checked_divides,
    checked_positive,
    generator_or_new,
)
from numpy_xlstm.numerics.initial import small_init, wang_init

SILU = ACTIVATIONS["swish"]


class mLSTMBlockState(NamedTuple):
    """State of an mLSTM block, or its cotangent.

    Parameters
    ----------
    conv : np.ndarray
        Last inputs of the convolution, (B, K − 1, I), I the inner width.
    mlstm : mLSTMState
        Memory of the cell.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mLSTMBlock, mLSTMBlockConfig, mLSTMLayerConfig
    >>> block = mLSTMBlock(mLSTMBlockConfig(mLSTMLayerConfig(embedding_dim=32)))
    >>> state = block.init_state(2)
    >>> state.conv.shape, state.mlstm.C.shape
    ((2, 3, 64), (2, 4, 16, 16))
    """

    conv: Array  # the last inputs of the convolution, (B, K − 1, inner width)
    mlstm: mLSTMState


mLSTMLayerCache = namedtuple(
    "mLSTMLayerCache", "up conv active projections gates memory norm gated down dropped"
)
"""Residuals of the parts."""


class mLSTMLayer(Recurrent[mLSTMBlockState]):
    r"""mLSTM between an up- and a down-projection (xLSTM paper, Figure 11).

    .. math::
        (x, z) = W_{up} u, \quad a = \mathrm{SiLU}(\mathrm{conv}(x)), \quad
        h = \mathrm{mLSTM}(W_q a, W_k a, W_v x) \\
        y = W_{down} \big( (\mathrm{norm}(h) + s ∘ a) ∘ \mathrm{SiLU}(z) \big)

    Parameters
    ----------
    config : mLSTMLayerConfig
        Sizes; ``embedding_dim`` must be set.
    num_blocks : int
        Number of blocks in the stack, which scales the initial W_down.
    dtype, rng
        As in :class:`~numpy_xlstm.xLSTMLMModel`.

    Examples
    --------
    >>> import numpy as np
    >>> layer = mLSTMLayer(mLSTMLayerConfig(embedding_dim=16), rng=np.random.default_rng(0))
    >>> y, state, cache = layer.forward(np.ones((2, 5, 16)))
    >>> y.shape, state.conv.shape, state.mlstm.C.shape
    ((2, 5, 16), (2, 3, 64), (2, 4, 16, 16))
    """

    def __init__(
        self,
        config: mLSTMLayerConfig,
        *,
        num_blocks: int = 1,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        check_kind("config", config, mLSTMLayerConfig)
        D, width = config.embedding_dim, config.qkv_proj_blocksize
        checked_positive("embedding_dim", D)
        self.config, self.in_features, self.out_features = config, D, D
        self.inner = inner = config.proj_up_dim(D)
        NH, bias, rng = config.num_heads, config.bias, generator_or_new(rng)
        blocks = inner // checked_divides("qkv_proj_blocksize", width, "the inner width", inner)
        checked_divides("num_heads", NH, "the inner width", inner)
        options: dict[str, Any] = {"dtype": dtype, "rng": rng}
        small = options | {"deviation": small_init(D)}
        self.proj_up = Linear(D, 2 * inner, bias, **small)
        self.q_proj, self.k_proj, self.v_proj = (
            HeadwiseLinear(inner, blocks, bias, **small) for _ in "qkv"
        )
        self.conv1d = CausalConv1d(inner, config.conv1d_kernel_size, **options)
        gates = {"igate": NH, "fgate": NH}
        self.gates = LinearGroup(3 * inner, gates, True, deviation=0.0, **options)
        set_gate_biases(self.gates, rng.normal(0, 0.1, NH))
        self.outnorm = MultiHeadLayerNorm(NH, inner // NH, dtype=dtype)
        down = wang_init(D, num_blocks)
        self.proj_down = Linear(inner, D, bias, deviation=down, **options)
        self.dropout = config.dropout
        self.params = {"learnable_skip": np.ones(inner, self.proj_down.dtype)}
        # the order of the parameters in the official model
        names = {"proj_up": "proj_up", "gates": "mlstm_cell", "outnorm": "mlstm_cell.outnorm"}
        names |= {n: n for n in ("q_proj", "k_proj", "v_proj", "conv1d", "proj_down")}
        self.submodules = names

    def init_state(self, batch_size: int) -> mLSTMBlockState:
        conv, NH = self.conv1d.init_state(batch_size), self.config.num_heads
        DH = self.inner // NH
        return mLSTMBlockState(conv, empty_memory((batch_size, NH, DH, DH), self.dtype))

    def compute(
        self, x: Array, state: mLSTMBlockState, options: RunOptions
    ) -> tuple[Array, mLSTMBlockState, mLSTMLayerCache]:
        both, up = self.proj_up.compute(x)  # [mblock.1]
        inner, z = both[..., : self.inner], both[..., self.inner :]
        convolved, conv_state, conv = self.conv1d.compute(inner, state.conv, options)
        a, active = SILU.forward(convolved)  # [mblock.2]
        q, q_cache = self.q_proj.compute(a)  # [mblock.3]
        k, k_cache = self.k_proj.compute(a)
        v, v_cache = self.v_proj.compute(inner)
        qkv = np.concatenate((q, k, v), axis=-1)
        pre, gates = self.gates.compute(qkv)  # [mblock.4]
        (q, k, v), (i, f) = np.split(qkv, 3, axis=-1), np.split(pre, 2, axis=-1)
        h, memory_state, memory = forms.forward(q, k, v, i, f, state.mlstm, lengths=options.lengths)
        normed, norm = self.outnorm.compute(h)  # [mblock.5]
        read = normed + self.params["learnable_skip"] * a  # [mblock.6]
        gate, gate_cache = SILU.forward(z)
        y, down = self.proj_down.compute(read * gate)  # [mblock.7]
        y, dropped = drop(y, self.dropout, options.rng)
        projections, gated = (q_cache, k_cache, v_cache), (read, gate_cache)
        kept = up, conv, active, projections, gates, memory, norm, gated, down, dropped
        return y, mLSTMBlockState(conv_state, memory_state), mLSTMLayerCache(*kept)

    def decode_step(self) -> Step:
        up, conv = self.proj_up.decode_step(), self.conv1d.decode_step()
        gates, outnorm = self.gates.decode_step(), self.outnorm.decode_step()
        down = self.proj_down.decode_step()
        width, NH, skip = self.inner, self.config.num_heads, self.params["learnable_skip"].copy()
        maps = self.q_proj, self.k_proj, self.v_proj
        W = np.stack([join_blocks(linear.params["weight"]).swapaxes(1, 2) for linear in maps])
        b = np.stack([bias_of(linear) for linear in maps])[:, None]

        def step(x: Array, state: mLSTMBlockState) -> tuple[Array, mLSTMBlockState]:
            both, B = up(x), len(x)  # [mblock.1]
            inner, z = both[:, :width], both[:, width:]
            convolved, conv_state = conv(inner, state.conv)
            a, _ = SILU.forward(convolved)  # [mblock.2]
            blocks = np.concatenate((a, a, inner)).reshape(3, B, *W.shape[1:3])  # of q, k and v
            products = blocks.swapaxes(1, 2) @ W  # (3, number of blocks, B, width of a block)
            qkv = products.swapaxes(1, 2).reshape(3, B, width) + b  # [mblock.3]
            q, k, v = qkv.reshape(3, B, NH, -1)
            of_rows = qkv.swapaxes(0, 1).reshape(B, 3 * width)
            pre = gates(of_rows)  # [mblock.4]
            h, memory_state = mlstm_step(q, k, v, pre[:, :NH], pre[:, NH:], state.mlstm, EPS)
            read = outnorm(h) + skip * a  # [mblock.5] [mblock.6]
            y = down(read * SILU.forward(z)[0])  # [mblock.7]
            return y, mLSTMBlockState(conv_state, memory_state)

        return step

    def compute_backward(
        self, dy: Array, cache: mLSTMLayerCache, dstate: mLSTMBlockState
    ) -> tuple[Array, mLSTMBlockState, Grads]:
        (q_cache, k_cache, v_cache), (read, gate_cache) = cache.projections, cache.gated
        (a, _), (gate, _), skip = cache.active, gate_cache, self.params["learnable_skip"]
        dy = drop_backward(dy, cache.dropped)
        dgated, down = self.proj_down.compute_backward(dy, cache.down)
        dz = SILU.backward(dgated * read, gate_cache)  # [mblock.8]
        dread = dgated * gate  # [mblock.9]
        dskip = np.einsum("btd,btd->d", dread, a)  # [mblock.10]
        dh, outnorm = self.outnorm.compute_backward(dread, cache.norm)
        dq, dk, dv, di, df, before = forms.backward(dh, cache.memory, dstate.mlstm)
        dpre = np.concatenate((di, df), axis=-1)
        from_gates, gates = self.gates.compute_backward(dpre, cache.gates)  # [mblock.11]
        for d, more in zip((dq, dk, dv), np.split(from_gates, 3, axis=-1), strict=True):
            d += more  # [mblock.12]
        from_q, q_proj = self.q_proj.compute_backward(dq, q_cache)
        from_k, k_proj = self.k_proj.compute_backward(dk, k_cache)
        from_v, v_proj = self.v_proj.compute_backward(dv, v_cache)
        da = dread * skip + from_q + from_k
        dconvolved = SILU.backward(da, cache.active)  # [mblock.13]
        from_conv, dconv, conv1d = self.conv1d.compute_backward(dconvolved, cache.conv, dstate.conv)
        from_v += from_conv  # [mblock.14]
        dboth = np.concatenate((from_v, dz), axis=-1)
        dx, proj_up = self.proj_up.compute_backward(dboth, cache.up)
        grads = self.named_grads(proj_up=proj_up, q_proj=q_proj, k_proj=k_proj, v_proj=v_proj)
        grads |= self.named_grads(conv1d=conv1d, gates=gates, outnorm=outnorm, proj_down=down)
        return dx, mLSTMBlockState(dconv, before), grads | {"learnable_skip": dskip}
