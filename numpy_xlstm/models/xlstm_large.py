"""xLSTM Large, the architecture of "xLSTM 7B": soft caps, RMS norms, SwiGLU, no convolution.

Derived in ``docs/blocks/xlstm-large-block.md``, whose tags are cited here.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.mlstm.form import FormCache
from numpy_xlstm.cells.mlstm.gates import Options
from numpy_xlstm.cells.mlstm.inputs import empty_state
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.layers import (
    ACTIVATIONS,
    Embedding,
    GatedFeedForward,
    Linear,
    LinearCache,
    LinearGroup,
    LinearGroupCache,
    MultiHeadLayerNorm,
    NormCache,
    RMSNorm,
)
from numpy_xlstm.layers.soft_cap import apply_cap, apply_cap_backward
from numpy_xlstm.models.block import Grads, Recurrent
from numpy_xlstm.models.config import own_config
from numpy_xlstm.models.heads import mlstm_over_heads, mlstm_over_heads_backward
from numpy_xlstm.models.initialisation import forget_bias, small_init, wang_init
from numpy_xlstm.models.large_config import xLSTMLargeConfig
from numpy_xlstm.models.stack import BlockStack
from numpy_xlstm.models.token_model import TokenModel
from numpy_xlstm.models.xlstm_block import Names, ResidualBlock
from numpy_xlstm.numerics import Array, generator_or_new
from numpy_xlstm.parameters import child, named_grads

SIGMOID = ACTIVATIONS["sigmoid"]
"""What the output gate is."""


class xLSTMLargeLayerCache(NamedTuple):
    """What the backward of :class:`xLSTMLargeLayer` needs."""

    qkvo: LinearGroupCache
    gates: LinearGroupCache
    capped: tuple[Array | None, Array | None]
    """What the backward of the soft caps of i and f needs, (B, T, NH)."""
    mlstm: FormCache
    norm: NormCache
    normed: Array
    """The memory's output after the norm, (B, T, NH·DV)."""
    output_gate: Array
    """o, (B, T, NH·DV)."""
    sigmoid: tuple[Array, ...]
    out: LinearCache


class xLSTMLargeLayer(Recurrent[mLSTMState, xLSTMLargeLayerCache]):
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
    dtype : dtype
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        Under the official names.
    """

    qkvo = child[LinearGroup]("(qkvo)")
    gates = child[LinearGroup]("(gates)")
    multihead_norm = child[MultiHeadLayerNorm]()
    out_proj = child[Linear]()

    def __init__(
        self,
        config: xLSTMLargeConfig,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.config = config = own_config(config, xLSTMLargeConfig)
        self.width, NH, bias = config.embedding_dim, config.num_heads, config.use_bias
        QK, V, fused = config.qk_dim, config.v_dim, config.weight_mode == "fused"
        self.options = Options(float(config.eps), "sigmoid", "exp")
        rng = generator_or_new(rng)
        self.children = {
            "(qkvo)": LinearGroup(
                self.width,
                {"q": QK, "k": QK, "v": V, "ogate_preact": V},
                bias,
                fused="qkv_opreact" if fused else None,
                dtype=dtype,
                rng=rng,
            ),
            "(gates)": LinearGroup(
                self.width,
                {"igate_preact": NH, "fgate_preact": NH},
                bias=True,
                fused="ifgate_preact" if fused else None,
                dtype=dtype,
                rng=rng,
            ),
            "multihead_norm": MultiHeadLayerNorm(
                NH, V // NH, config.norm_eps, bias=bias, residual_weight=False, dtype=dtype
            ),
            "out_proj": Linear(V, self.width, bias, dtype=dtype, rng=rng),
        }
        self._initialise(rng)

    def _initialise(self, rng: np.random.Generator) -> None:
        D = self.width
        _small_start(self.qkvo, D, rng)
        _wang_start(self.out_proj, D, self.config.num_blocks, rng)
        i, f = self.gates.views("weight")
        i[...] = f[...] = 0
        i, f = self.gates.views("bias")
        i[...], f[...] = -10, forget_bias(self.config.num_heads)

    def empty_state(self, batch_size: int) -> mLSTMState:
        """Return the state before a sequence, without checks."""
        NH, DK, DV = self.config.num_heads, self.config.qk_dim, self.config.v_dim
        return empty_state(batch_size, NH, DK // NH, DV // NH, self.dtype, self.options)

    def apply(
        self, x: Array, state: mLSTMState, rng: np.random.Generator | None
    ) -> tuple[Array, mLSTMState, xLSTMLargeLayerCache]:
        """Forward, without checks; there is no dropout."""
        (q, k, v, o_pre), qkvo = self.qkvo.apply(x)  # [large.1]
        pre, gates = self.gates.apply(x)
        (i, i_cap), (f, f_cap) = (apply_cap(g, self.config.gate_soft_cap) for g in pre)
        h, state, mlstm = mlstm_over_heads(
            q, k, v, i, f, state, self.options, self.config.chunk_size
        )  # [large.2]
        normed, norm = self.multihead_norm.apply(h)  # [large.3]
        o, sigmoid = SIGMOID.forward(o_pre)
        y, out = self.out_proj.apply(o * normed)  # [large.4]
        capped = i_cap, f_cap
        cache = xLSTMLargeLayerCache(qkvo, gates, capped, mlstm, norm, normed, o, sigmoid, out)
        return y, state, cache

    def apply_backward(
        self, dy: Array, cache: xLSTMLargeLayerCache, dstate: mLSTMState
    ) -> tuple[Array, mLSTMState, Grads]:
        """Backward, without checks."""
        dgated, out_grads = self.out_proj.apply_backward(dy, cache.out)
        do_pre = SIGMOID.backward(dgated * cache.normed, cache.sigmoid)  # [large.5]
        dgated *= cache.output_gate  # [large.6]
        dh, norm_grads = self.multihead_norm.apply_backward(dgated, cache.norm)
        d = mlstm_over_heads_backward(dh, cache.mlstm, dstate)
        dpre = [
            apply_cap_backward(dg, cap)  # [large.7]
            for dg, cap in zip((d.i, d.f), cache.capped, strict=True)
        ]
        dx, qkvo_grads = self.qkvo.apply_backward([d.q, d.k, d.v, do_pre], cache.qkvo)
        from_gates, gate_grads = self.gates.apply_backward(dpre, cache.gates)
        dx += from_gates  # [large.8]
        parts = {
            "(qkvo)": qkvo_grads,
            "(gates)": gate_grads,
            "multihead_norm": norm_grads,
            "out_proj": out_grads,
        }
        return dx, d.state, named_grads(parts)


class xLSTMLargeBlock(ResidualBlock):
    """x + mLSTM(norm(x)), then x + SwiGLU(norm(x)), with RMS norms.

    Parameters
    ----------
    config : xLSTMLargeConfig
        The model's configuration.
    dtype : dtype
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``norm_mlstm.…``, ``mlstm_layer.…``, ``norm_ffn.…`` and ``ffn.…``, the official names.

    Examples
    --------
    >>> import numpy as np
    >>> config = xLSTMLargeConfig(embedding_dim=16, num_heads=2, num_blocks=1, vocab_size=9)
    >>> block = xLSTMLargeBlock(config, rng=np.random.default_rng(0))
    >>> y, state, cache = block.forward(np.ones((2, 5, 16)))
    >>> y.shape, state.C.shape
    ((2, 5, 16), (2, 2, 4, 8))
    """

    names = Names("norm_mlstm", "mlstm_layer", "norm_ffn", "ffn")

    def __init__(
        self,
        config: xLSTMLargeConfig,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        config, rng = own_config(config, xLSTMLargeConfig), generator_or_new(rng)
        D, U, bias = config.embedding_dim, config.ffn_dim, config.use_bias
        fused = "proj_up_gate_z" if config.weight_mode == "fused" else None
        ffn = GatedFeedForward(D, U, "swish", bias, fused=fused, dtype=dtype, rng=rng)
        _small_start(ffn.up, D, rng)
        _wang_start(ffn.proj_down, D, config.num_blocks, rng)
        layer = xLSTMLargeLayer(config, dtype=dtype, rng=rng)
        super().__init__(layer, _norm(config, dtype), ffn, _norm(config, dtype))


class xLSTMLarge(TokenModel):
    """The language model of "xLSTM 7B": every block an mLSTM and a SwiGLU layer.

    Parameters
    ----------
    config : xLSTMLargeConfig
        The model's configuration.
    dtype : dtype
        The dtype of the parameters, of the states and of the logits.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        Under the official names.

    Notes
    -----
    The official package starts from PyTorch's defaults, since its models are loaded. Here the gates
    start as the paper says, weights at 0, input bias −10, forget bias from 3 to 6 over the heads;
    what adds to the residual starts with "Wang init", and all other matrices with "small init".

    Logits are a tanh(x W / a), a = ``output_logit_soft_cap``.

    Examples
    --------
    >>> import numpy as np
    >>> config = xLSTMLargeConfig(embedding_dim=16, num_heads=2, num_blocks=2, vocab_size=9)
    >>> model = xLSTMLarge(config, rng=np.random.default_rng(0))
    >>> logits, state, cache = model.forward(np.array([[1, 2, 3]]))
    >>> logits.shape, len(state), state[0].C.shape
    ((1, 3, 9), 2, (1, 2, 4, 8))
    """

    names = ("embedding", "backbone", "lm_head")

    def __init__(
        self,
        config: xLSTMLargeConfig,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.config = config = own_config(config, xLSTMLargeConfig)
        rng = generator_or_new(rng)
        D, V = config.embedding_dim, config.vocab_size
        blocks = [xLSTMLargeBlock(config, dtype=dtype, rng=rng) for _ in range(config.num_blocks)]
        norm = _norm(config, dtype) if config.add_out_norm else None
        embedding = Embedding(V, D, dtype=dtype, rng=rng)
        head = Linear(D, V, bias=False, dtype=dtype, rng=rng)
        for part in (embedding, head):
            small_init(part.params["weight"], D, rng)
        stack = BlockStack(list(blocks), norm, "out_norm")
        super().__init__(embedding, stack, head, cap=config.output_logit_soft_cap)


def _norm(config: xLSTMLargeConfig, dtype: npt.DTypeLike) -> RMSNorm:
    return RMSNorm(config.embedding_dim, config.norm_eps, bias=config.use_bias, dtype=dtype)


def _small_start(group: LinearGroup, dim: int, rng: np.random.Generator) -> None:
    """Small init of every map of a group, biases 0."""
    for name, array in group.params.items():
        array[...] = 0
        if name.endswith("weight"):
            small_init(array, dim, rng)


def _wang_start(linear: Linear, dim: int, num_blocks: int, rng: np.random.Generator) -> None:
    """Wang init of a map that adds to the residual, its bias 0."""
    wang_init(linear.params["weight"], dim, num_blocks, rng)
    if "bias" in linear.params:
        linear.params["bias"][...] = 0
