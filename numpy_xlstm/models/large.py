"""xLSTM Large ("xLSTM 7B"): its configuration, with the official names, and its block.

Derived in ``docs/blocks/xlstm-large-block.md``, whose tags are cited here.
"""

from collections import namedtuple
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.mlstm import EPS, empty_memory, mLSTMState
from numpy_xlstm.config import FEW, Config, NotNegative, Positive
from numpy_xlstm.errors import OptionError
from numpy_xlstm.kernels.mlstm import forms
from numpy_xlstm.kernels.mlstm.step import mlstm_step
from numpy_xlstm.layers import (
    ACTIVATIONS,
    GatedFeedForward,
    Linear,
    LinearGroup,
    MultiHeadLayerNorm,
    Recurrent,
    RMSNorm,
)
from numpy_xlstm.layers.activations import check_cap, soft_cap, soft_cap_backward
from numpy_xlstm.layers.base import RunOptions, Step
from numpy_xlstm.layers.linear import joined_step, set_gate_biases
from numpy_xlstm.models.blocks import ResidualBlock
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, check_kind, generator_or_new, sigmoid
from numpy_xlstm.numerics.initial import small_init, wang_init

Cap = Annotated[float | None, check_cap]


@dataclass(frozen=True)
class xLSTMLargeConfig(Config):
    """Configuration of "xLSTM 7B" (arXiv 2503.13427).

    Attributes
    ----------
    embedding_dim, num_heads, num_blocks, vocab_size : int
        Width D, and numbers of heads, blocks (at most 1,024) and tokens.
    use_bias : bool
        Whether linear maps and norms of the body have biases; the gates of the mLSTM always do.
    norm_eps : float
        ε of all norms.
    add_out_norm : bool
        Whether there is a norm after the last block.
    qk_dim_factor, v_dim_factor : float
        Widths of all queries, and of all values, as fractions of D.
    chunk_size : int
        Steps per chunk of the chunkwise form.
    eps : float
        ε of the mLSTM's denominator.
    ffn_proj_factor, ffn_round_up_to_multiple_of
        Inner width of the feed-forward layer: this factor times D, rounded up.
    gate_soft_cap, output_logit_soft_cap : float
        Soft caps of the gates' pre-activations and of the logits.
    weight_mode : {"single", "fused"}
        "fused" stores three groups of maps as one matrix each: q, k, v and output gate; input and
        forget gate; the two up-projections of the feed-forward layer.
    norm_reduction_force_float32, autocast_kernel_dtype, inference_state_dtype
        Ignored, see the notes.
    chunkwise_kernel, sequence_kernel, step_kernel, mode, return_last_states
        Ignored, see the notes.

    Notes
    -----
    Ignored fields select kernels and number formats of the official package. They are accepted so
    that its files can be read: training, prefill and generation use one ``forward`` in
    the dtype of the model.

    Examples
    --------
    >>> config = xLSTMLargeConfig(
    ...     embedding_dim=4096, num_heads=8, num_blocks=32, vocab_size=50304)
    >>> config.qk_dim, config.v_dim, config.ffn_dim
    (2048, 4096, 10944)
    """

    embedding_dim: Positive
    num_heads: Positive
    num_blocks: Annotated[Positive, FEW]
    vocab_size: Positive
    use_bias: bool = False
    norm_eps: NotNegative = 1e-6
    norm_reduction_force_float32: bool = True
    add_out_norm: bool = True
    qk_dim_factor: NotNegative = 0.5
    v_dim_factor: NotNegative = 1.0
    chunkwise_kernel: str = "chunkwise--triton_limit_chunk"
    sequence_kernel: str = "native_sequence__triton"
    step_kernel: str = "triton"
    mode: Literal["train", "train_with_padding", "inference"] = "train"
    chunk_size: Positive = 64
    return_last_states: bool = False
    autocast_kernel_dtype: str = "bfloat16"
    eps: NotNegative = EPS
    inference_state_dtype: str = "float32"
    ffn_proj_factor: NotNegative = 2.6667
    ffn_round_up_to_multiple_of: Positive = 64
    gate_soft_cap: Cap = 15.0
    output_logit_soft_cap: Cap = 30.0
    weight_mode: Literal["single", "fused"] = "single"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("qk_dim", "v_dim"):
            if (width := getattr(self, name)) % self.num_heads or width == 0:
                factor = getattr(self, f"{name}_factor")
                raise OptionError(
                    f"{name}_factor: expected a width that num_heads = {self.num_heads} divides; "
                    f"got {width}, which is {factor} of embedding_dim = {self.embedding_dim}"
                )
        if self.ffn_dim == 0:
            raise OptionError(
                f"ffn_proj_factor: expected a width above 0; got {self.ffn_proj_factor}, with "
                f"which embedding_dim = {self.embedding_dim} gives 0"
            )

    @property
    def qk_dim(self) -> int:
        """Width of all queries together."""
        return int(self.embedding_dim * self.qk_dim_factor)

    @property
    def v_dim(self) -> int:
        """Width of all values together."""
        return int(self.embedding_dim * self.v_dim_factor)

    @property
    def ffn_dim(self) -> int:
        """Inner width of the feed-forward layer."""
        multiple = self.ffn_round_up_to_multiple_of
        width = self.embedding_dim * self.ffn_proj_factor
        return int((width + multiple - 1) // multiple) * multiple


SIGMOID = ACTIVATIONS["sigmoid"]


xLSTMLargeLayerCache = namedtuple(
    "xLSTMLargeLayerCache", "qkvo gates capped mlstm norm normed o slope out"
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
        if config.weight_mode == "fused":
            maps, gates = {"qkv_opreact": 2 * (QK + V)}, {"ifgate_preact": 2 * NH}
        self.qkvo = LinearGroup(D, maps, bias, deviation=small, **options)
        self.gates = LinearGroup(D, gates, True, deviation=0.0, **options)
        set_gate_biases(self.gates, -10)
        self.multihead_norm = MultiHeadLayerNorm(
            NH, V // NH, config.norm_eps, bias=bias, residual_weight=False, dtype=dtype
        )
        down = wang_init(D, config.num_blocks)
        self.out_proj = Linear(V, D, bias, deviation=down, **options)
        own = {name: name for name in ("multihead_norm", "out_proj")}
        self.submodules = {"qkvo": "", "gates": "", **own}

    def init_state(self, batch_size: int) -> mLSTMState:
        NH, DK, DV = self.config.num_heads, self.config.qk_dim, self.config.v_dim
        return empty_memory((batch_size, NH, DK // NH, DV // NH), self.dtype)

    def compute(
        self, x: Array, state: mLSTMState, options: RunOptions
    ) -> tuple[Array, mLSTMState, xLSTMLargeLayerCache]:
        config = self.config
        maps, qkvo = self.qkvo.compute(x)  # [large.1]
        stops = np.cumsum([config.qk_dim, config.qk_dim, config.v_dim])
        q, k, v, o_pre = np.split(maps, stops, axis=-1)
        q = q.copy()  # the cache keeps it, and not all maps
        pre, gates = self.gates.compute(x)
        pre, capped = soft_cap(pre, config.gate_soft_cap)
        i, f = np.split(pre, 2, axis=-1)
        eps, size = float(config.eps), config.chunk_size
        h, state, memory = forms.forward(  # [large.2]
            q, k, v, i, f, state, lengths=options.lengths, eps=eps, chunk_size=size
        )
        normed, norm = self.multihead_norm.compute(h)  # [large.3]
        o, slope = SIGMOID.forward(o_pre)
        y, out = self.out_proj.compute(o * normed)  # [large.4]
        kept = qkvo, gates, capped, memory, norm, normed, o, slope, out
        return y, state, xLSTMLargeLayerCache(*kept)

    def decode_step(self) -> Step:
        config = self.config
        NH, QK, V = config.num_heads, config.qk_dim, config.v_dim
        stops = np.cumsum([QK, QK, V, V]).tolist()
        maps = joined_step(*self.qkvo.linears, *self.gates.linears)
        norm, out = self.multihead_norm.decode_step(), self.out_proj.decode_step()

        def step(x: Array, state: mLSTMState) -> tuple[Array, mLSTMState]:
            *qkv, o_pre, pre = np.split(maps(x), stops, axis=-1)  # [large.1]
            q, k, v = (array.reshape(len(x), NH, -1) for array in qkv)
            pre, _ = soft_cap(pre, config.gate_soft_cap)
            h, state = mlstm_step(q, k, v, pre[:, :NH], pre[:, NH:], state, config.eps)  # [large.2]
            return out(sigmoid(o_pre) * norm(h)), state  # [large.3] [large.4]

        return step

    def compute_backward(
        self, dy: Array, cache: xLSTMLargeLayerCache, dstate: mLSTMState
    ) -> tuple[Array, mLSTMState, Grads]:
        dgated, out = self.out_proj.compute_backward(dy, cache.out)
        do_pre = SIGMOID.backward(dgated * cache.normed, cache.slope)  # [large.5]
        dnormed = dgated * cache.o  # [large.6]
        dh, norm = self.multihead_norm.compute_backward(dnormed, cache.norm)
        *dqkv, di, df, before = forms.backward(dh, cache.mlstm, dstate)
        dpre = soft_cap_backward(np.concatenate((di, df), axis=-1), cache.capped)  # [large.7]
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
        names = {"norm": "norm_mlstm", "layer": "mlstm_layer", "ffn_norm": "norm_ffn", "ffn": "ffn"}
        super().__init__(layer, rms_norm(config, dtype), ffn, rms_norm(config, dtype), names=names)


def rms_norm(config: xLSTMLargeConfig, dtype: npt.DTypeLike) -> RMSNorm:
    """Make the norm that is used before both layers and after the last block."""
    return RMSNorm(config.embedding_dim, config.norm_eps, bias=config.use_bias, dtype=dtype)
