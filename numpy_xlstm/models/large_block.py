"""The block of xLSTM Large ("xLSTM 7B"): soft caps, RMS norms, SwiGLU, no convolution.

Derived in ``docs/blocks/xlstm-large-block.md``, whose tags are cited here.
"""

from collections import namedtuple
from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.mlstm import empty_memory, mLSTMState
from numpy_xlstm.kernels.mlstm import forms
from numpy_xlstm.layers import (
    ACTIVATIONS,
    GatedFeedForward,
    Linear,
    LinearGroup,
    MultiHeadLayerNorm,
    Recurrent,
    RMSNorm,
)
from numpy_xlstm.layers.activations import apply_cap, apply_cap_backward
from numpy_xlstm.layers.base import EVALUATION, RunOptions
from numpy_xlstm.models.blocks import ResidualBlock
from numpy_xlstm.models.initialisation import set_gate_biases, small_init, wang_init
from numpy_xlstm.models.large_config import xLSTMLargeConfig
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, check_kind, generator_or_new

SIGMOID = ACTIVATIONS["sigmoid"]


xLSTMLargeLayerCache = namedtuple(
    "xLSTMLargeLayerCache", "qkvo gates capped mlstm norm normed o sigmoid out"
)
"""Residuals: those of the parts, and norm(h) and the output gate, (B, T, NH·DV)."""


class xLSTMLargeLayer(Recurrent[mLSTMState]):
    r"""The mLSTM layer of xLSTM Large.

    .. math::
        q, k, v, \tilde o = W x, \quad
        \tilde\imath, \tilde f = a \tanh \big( (W x + b) / a \big), \\
        h = \mathrm{mLSTM}(q, k, v, \tilde\imath, \tilde f), \quad
        y = W_{out} \big( σ(\tilde o) ∘ \mathrm{norm}(h) \big)

    Parameters
    ----------
    config : xLSTMLargeConfig
        The model's configuration.
    **options
        ``dtype`` and ``rng``, as in :class:`~numpy_xlstm.xLSTMLMModel`.
    """

    def __init__(self, config: xLSTMLargeConfig, **options: Any) -> None:
        D, NH, QK, V = config.embedding_dim, config.num_heads, config.qk_dim, config.v_dim
        self.config, self.in_features, self.out_features = config, D, D
        dtype = options.setdefault("dtype", np.float64)
        options["rng"] = generator_or_new(options.get("rng"))
        small, bias = small_init(D), config.use_bias
        maps = {"q": QK, "k": QK, "v": V, "ogate_preact": V}
        gates = {"igate_preact": NH, "fgate_preact": NH}
        self.qkvo: Linear | LinearGroup
        self.gates: Linear | LinearGroup
        if config.weight_mode == "fused":
            self.qkvo = Linear(D, 2 * (QK + V), bias, deviation=small, **options)
            self.gates = Linear(D, 2 * NH, True, deviation=0.0, **options)
            self.parts = {"qkvo": "qkv_opreact", "gates": "ifgate_preact"}
        else:
            self.qkvo = LinearGroup(D, maps, bias, deviation=small, **options)
            self.gates = LinearGroup(D, gates, True, deviation=0.0, **options)
            self.parts = {"qkvo": "", "gates": ""}
        set_gate_biases(self.gates, -10)
        self.multihead_norm = MultiHeadLayerNorm(
            NH, V // NH, config.norm_eps, bias=bias, residual_weight=False, dtype=dtype
        )
        down = wang_init(D, config.num_blocks)
        self.out_proj = Linear(V, D, bias, deviation=down, **options)
        self.parts |= {name: name for name in ("multihead_norm", "out_proj")}

    def init_state(self, batch_size: int) -> mLSTMState:
        """Return the empty state, the state before a sequence: zeros, and m = −inf."""
        NH, DK, DV = self.config.num_heads, self.config.qk_dim, self.config.v_dim
        return empty_memory((batch_size, NH, DK // NH, DV // NH), self.dtype)

    def compute(
        self, x: Array, state: mLSTMState, options: RunOptions = EVALUATION
    ) -> tuple[Array, mLSTMState, xLSTMLargeLayerCache]:
        """Compute the forward without checks. There is no dropout."""
        config = self.config
        maps, qkvo = self.qkvo.compute(x)  # [large.1]
        stops = np.cumsum([config.qk_dim, config.qk_dim, config.v_dim])
        q, k, v, o_pre = np.split(maps, stops, axis=-1)
        q = q.copy()  # the cache keeps it, and not all maps
        pre, gates = self.gates.compute(x)
        capped = None
        if config.gate_soft_cap is not None:
            pre, capped = apply_cap(pre, config.gate_soft_cap)
        i, f = np.split(pre, 2, axis=-1)
        eps, size = float(config.eps), config.chunk_size
        h, state, memory = forms.forward(  # [large.2]
            q, k, v, i, f, state, lengths=options.lengths, eps=eps, chunk_size=size
        )
        normed, norm = self.multihead_norm.compute(h)  # [large.3]
        o, sigmoid = SIGMOID.forward(o_pre)
        y, out = self.out_proj.compute(o * normed)  # [large.4]
        kept = qkvo, gates, capped, memory, norm, normed, o, sigmoid, out
        return y, state, xLSTMLargeLayerCache(*kept)

    def compute_backward(
        self, dy: Array, cache: xLSTMLargeLayerCache, dstate: mLSTMState
    ) -> tuple[Array, mLSTMState, Grads]:
        """Compute the backward without checks."""
        dgated, out = self.out_proj.compute_backward(dy, cache.out)
        do_pre = SIGMOID.backward(dgated * cache.normed, cache.sigmoid)  # [large.5]
        dnormed = dgated * cache.o  # [large.6]
        dh, norm = self.multihead_norm.compute_backward(dnormed, cache.norm)
        *dqkv, di, df, before = forms.backward(dh, cache.mlstm, dstate)
        dpre = np.concatenate((di, df), axis=-1)
        if cache.capped is not None:
            dpre = apply_cap_backward(dpre, cache.capped)  # [large.7]
        dmaps = np.concatenate((*dqkv, do_pre), axis=-1)
        dx, qkvo = self.qkvo.compute_backward(dmaps, cache.qkvo)
        from_gates, gates = self.gates.compute_backward(dpre, cache.gates)
        grads = self.named_grads(qkvo=qkvo, gates=gates, multihead_norm=norm, out_proj=out)
        return dx + from_gates, before, grads  # [large.8]


class xLSTMLargeBlock(ResidualBlock[mLSTMState]):
    """x + mLSTM(norm(x)), then x + SwiGLU(norm(x)), with RMS norms.

    Parameters
    ----------
    config, dtype, rng
        As in :class:`xLSTMLarge`. A state is an :class:`mLSTMState`.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import xLSTMLargeConfig
    >>> config = xLSTMLargeConfig(embedding_dim=16, num_heads=2, num_blocks=1, vocab_size=9)
    >>> block = xLSTMLargeBlock(config, rng=np.random.default_rng(0))
    >>> y, state, cache = block.forward(np.ones((2, 5, 16)))
    >>> y.shape, state.C.shape
    ((2, 5, 16), (2, 2, 4, 8))
    """

    def __init__(
        self,
        config: xLSTMLargeConfig,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        check_kind("config", config, xLSTMLargeConfig)
        D, U, rng = config.embedding_dim, config.ffn_dim, generator_or_new(rng)
        fused = "proj_up_gate_z" if config.weight_mode == "fused" else None
        start = small_init(D), wang_init(D, config.num_blocks)
        options: dict[str, Any] = {"fused": fused, "deviations": start, "dtype": dtype, "rng": rng}
        ffn = GatedFeedForward(D, U, "swish", config.use_bias, **options)
        layer = xLSTMLargeLayer(config, dtype=dtype, rng=rng)
        parts = {"norm": "norm_mlstm", "layer": "mlstm_layer", "ffn_norm": "norm_ffn", "ffn": "ffn"}
        super().__init__(layer, rms_norm(config, dtype), ffn, rms_norm(config, dtype), parts=parts)


def rms_norm(config: xLSTMLargeConfig, dtype: npt.DTypeLike) -> RMSNorm:
    """Make the norm that is used before both layers and after the last block."""
    return RMSNorm(config.embedding_dim, config.norm_eps, bias=config.use_bias, dtype=dtype)
