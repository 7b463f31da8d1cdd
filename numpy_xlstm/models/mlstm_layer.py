"""The mLSTM layer of the first paper: up-projection, convolution, memory, gate, down-projection.

Derived in ``docs/blocks/mlstm-block.md``, whose tags are cited here.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.errors import OptionError
from numpy_xlstm.kernels.mlstm.shared import Cache
from numpy_xlstm.layers import (
    ACTIVATIONS,
    CausalConv1d,
    CausalConv1dCache,
    Dropout,
    HeadwiseLinear,
    HeadwiseLinearCache,
    Linear,
    LinearCache,
    LinearGroup,
    LinearGroupCache,
    MultiHeadLayerNorm,
    NormCache,
    Recurrent,
)
from numpy_xlstm.models.config import own_config
from numpy_xlstm.models.configs import mLSTMLayerConfig
from numpy_xlstm.models.heads import empty_memory, mlstm_over_heads, mlstm_over_heads_backward
from numpy_xlstm.models.initialisation import forget_bias, small_init, wang_init
from numpy_xlstm.models.states import mLSTMBlockState
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, check_positive, generator_or_new

SILU = ACTIVATIONS["swish"]


class MemoryCache(NamedTuple):
    """What the backward of :class:`NormedMemory` needs."""

    gates: LinearGroupCache
    mlstm: Cache
    norm: NormCache


class NormedMemory(Module):
    """Gates from q, k and v together, the mLSTM, and a norm for each head.

    The official package calls it ``mLSTMCell``.
    """

    def __init__(
        self, width: int, num_heads: int, dtype: npt.DTypeLike, rng: np.random.Generator
    ) -> None:
        if width % num_heads:
            raise OptionError(
                f"num_heads: expected a divisor of the inner width {width}; got {num_heads}"
            )
        widths = {"igate": num_heads, "fgate": num_heads}
        self.gates = LinearGroup(3 * width, widths, bias=True, dtype=dtype, rng=rng)
        self.outnorm = MultiHeadLayerNorm(num_heads, width // num_heads, dtype=dtype)
        self.parts = {"gates": "", "outnorm": "outnorm"}
        for weight in self.gates.views("weight"):
            weight[...] = 0
        igate, fgate = self.gates.views("bias")
        igate[...], fgate[...] = rng.normal(0, 0.1, num_heads), forget_bias(num_heads)

    def compute(
        self, q: Array, k: Array, v: Array, state: mLSTMState
    ) -> tuple[Array, mLSTMState, MemoryCache]:
        """Forward over q, k and v, (B, T, I)."""
        qkv = np.concatenate((q, k, v), axis=-1)
        (i, f), gates = self.gates.compute(qkv)  # [mblock.4]
        q, k, v = np.split(qkv, 3, axis=-1)
        h, state, memory = mlstm_over_heads(q, k, v, i, f, state)
        y, norm = self.outnorm.compute(h)  # [mblock.5]
        return y, state, MemoryCache(gates, memory, norm)

    def compute_backward(
        self, dy: Array, cache: MemoryCache, dstate: mLSTMState
    ) -> tuple[list[Array], mLSTMState, Grads]:
        """Backward: gradients of q, k and v, of the state and of the parameters."""
        dh, norm_grads = self.outnorm.compute_backward(dy, cache.norm)
        d = mlstm_over_heads_backward(dh, cache.mlstm, dstate)
        from_gates, gate_grads = self.gates.compute_backward([d.i, d.f], cache.gates)  # [mblock.11]
        thirds = np.split(from_gates, 3, axis=-1)
        dqkv = [dx + more for dx, more in zip(d[:3], thirds, strict=True)]  # [mblock.12]
        return dqkv, d.state, self.named_grads(gates=gate_grads, outnorm=norm_grads)


class mLSTMLayerCache(NamedTuple):
    """What the backward of :class:`mLSTMLayer` needs."""

    up: LinearGroupCache
    conv: CausalConv1dCache
    active: Array
    """a, SiLU of the convolution, (B, T, I)."""
    active_cache: Any
    gate: Array
    """SiLU(z), (B, T, I)."""
    gate_cache: Any
    projections: tuple[HeadwiseLinearCache, HeadwiseLinearCache, HeadwiseLinearCache]
    memory: MemoryCache
    read: Array
    """What is gated: the memory's output and the skip, (B, T, I)."""
    down: LinearCache
    dropped: Array | None


class mLSTMLayer(Recurrent):
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
        How many blocks the stack has, for the initial W_down.
    dtype : dtype
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        Under the official names.

    Raises
    ------
    OptionError
        If the inner width is not a multiple of ``num_heads`` or ``qkv_proj_blocksize``.

    Examples
    --------
    >>> import numpy as np
    >>> layer = mLSTMLayer(mLSTMLayerConfig(embedding_dim=16), rng=np.random.default_rng(0))
    >>> y, state, cache = layer.forward(np.ones((2, 5, 16)))
    >>> y.shape, state.conv.shape, state.mlstm.C.shape
    ((2, 5, 16), (2, 3, 64), (2, 4, 16, 16))
    """

    Cache = mLSTMLayerCache

    def __init__(
        self,
        config: mLSTMLayerConfig,
        *,
        num_blocks: int = 1,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.config = config = own_config(config, mLSTMLayerConfig)
        self.in_features = self.out_features = D = check_positive(
            "embedding_dim", config.embedding_dim
        )
        self.inner, bias, rng = config.proj_up_dim(D), config.bias, generator_or_new(rng)
        blocks, rest = divmod(self.inner, config.qkv_proj_blocksize)
        if rest:
            raise OptionError(
                f"qkv_proj_blocksize: expected a divisor of the inner width {self.inner}; "
                f"got {config.qkv_proj_blocksize}"
            )
        widths = {"x": self.inner, "z": self.inner}
        self.up = LinearGroup(D, widths, bias, fused="proj_up", dtype=dtype, rng=rng)
        self.q_proj, self.k_proj, self.v_proj = (
            HeadwiseLinear(self.inner, blocks, bias, dtype=dtype, rng=rng) for _ in "qkv"
        )
        self.conv1d = CausalConv1d(self.inner, config.conv1d_kernel_size, dtype=dtype, rng=rng)
        self.mlstm_cell = NormedMemory(self.inner, config.num_heads, dtype, rng)
        self.proj_down = Linear(self.inner, D, bias, dtype=dtype, rng=rng)
        self.drop, self.dropout = Dropout(config.dropout), config.dropout
        named = "q_proj", "k_proj", "v_proj", "conv1d", "mlstm_cell", "proj_down"
        self.parts = {"up": ""} | {name: name for name in named}
        self.params = {"learnable_skip": np.ones(self.inner, self.proj_down.dtype)}
        self._initialise(num_blocks, rng)

    def _initialise(self, num_blocks: int, rng: np.random.Generator) -> None:
        D, params = self.in_features, self.params
        for name in ("proj_up", "q_proj", "k_proj", "v_proj"):
            small_init(params[f"{name}.weight"], D, rng)
        wang_init(params["proj_down.weight"], D, num_blocks, rng)
        if self.config.bias:
            params["proj_up.bias"][...] = params["proj_down.bias"][...] = 0

    def init_state(self, batch_size: int) -> mLSTMBlockState:
        """Return the empty state, that before a sequence: zeros, and m = −inf."""
        conv, NH = self.conv1d.init_state(batch_size), self.config.num_heads
        DH = self.inner // NH
        return mLSTMBlockState(conv, empty_memory(batch_size, NH, DH, DH, self.dtype))

    def compute(
        self, x: Array, state: mLSTMBlockState, rng: np.random.Generator | None = None
    ) -> tuple[Array, mLSTMBlockState, mLSTMLayerCache]:
        """Forward, without checks."""
        (inner, z), up = self.up.compute(x)  # [mblock.1]
        convolved, conv_state, conv = self.conv1d.compute(inner, state.conv)
        active, active_cache = SILU.forward(convolved)  # [mblock.2]
        gate, gate_cache = SILU.forward(z)
        q, q_cache = self.q_proj.compute(active)  # [mblock.3]
        k, k_cache = self.k_proj.compute(active)
        v, v_cache = self.v_proj.compute(inner)
        normed, memory_state, memory = self.mlstm_cell.compute(q, k, v, state.mlstm)
        read = normed + self.params["learnable_skip"] * active  # [mblock.6]
        y, down = self.proj_down.compute(read * gate)  # [mblock.7]
        y, dropped = self.drop.compute(y, rng)
        projections = q_cache, k_cache, v_cache
        kept = up, conv, active, active_cache, gate, gate_cache, projections, memory, read, down
        return y, mLSTMBlockState(conv_state, memory_state), mLSTMLayerCache(*kept, dropped)

    def compute_backward(
        self, dy: Array, cache: mLSTMLayerCache, dstate: mLSTMBlockState
    ) -> tuple[Array, mLSTMBlockState, Grads]:
        """Backward, without checks."""
        q_cache, k_cache, v_cache = cache.projections
        dy = self.drop.compute_backward(dy, cache.dropped)
        dgated, down = self.proj_down.compute_backward(dy, cache.down)
        dz = SILU.backward(dgated * cache.read, cache.gate_cache)  # [mblock.8]
        dread = dgated * cache.gate  # [mblock.9]
        dskip = np.einsum("btd,btd->d", dread, cache.active)
        (dq, dk, dv), dmemory, memory = self.mlstm_cell.compute_backward(
            dread, cache.memory, dstate.mlstm
        )
        from_q, q_proj = self.q_proj.compute_backward(dq, q_cache)
        from_k, k_proj = self.k_proj.compute_backward(dk, k_cache)
        dactive = dread * self.params["learnable_skip"]  # [mblock.10]
        dactive = dactive + from_q + from_k  # [mblock.13]
        dconvolved = SILU.backward(dactive, cache.active_cache)
        from_v, v_proj = self.v_proj.compute_backward(dv, v_cache)
        from_conv, dconv, conv1d = self.conv1d.compute_backward(dconvolved, cache.conv, dstate.conv)
        dinner = from_v + from_conv  # [mblock.14]
        dx, up = self.up.compute_backward([dinner, dz], cache.up)
        projections = {"q_proj": q_proj, "k_proj": k_proj, "v_proj": v_proj, "proj_down": down}
        grads = self.named_grads(up=up, conv1d=conv1d, mlstm_cell=memory, **projections)
        return dx, mLSTMBlockState(dconv, dmemory), {"learnable_skip": dskip} | grads
