"""The mLSTM layer of the first paper: up-projection, convolution, memory, gate, down-projection.

Derived in ``docs/blocks/mlstm-block.md``, whose tags are cited here.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.mlstm.chunkwise import CHUNK_SIZE
from numpy_xlstm.cells.mlstm.form import FormCache
from numpy_xlstm.cells.mlstm.gates import Options
from numpy_xlstm.cells.mlstm.inputs import empty_state
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.errors import OptionError
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
)
from numpy_xlstm.layers.layer import rows
from numpy_xlstm.layers.product import times_transposed
from numpy_xlstm.models.block import Grads, Recurrent
from numpy_xlstm.models.config import own_config
from numpy_xlstm.models.configs import mLSTMLayerConfig
from numpy_xlstm.models.heads import mlstm_over_heads, mlstm_over_heads_backward
from numpy_xlstm.models.initialisation import forget_bias, small_init, wang_init
from numpy_xlstm.models.states import mLSTMBlockState
from numpy_xlstm.numerics import Array, check_positive, generator_or_new
from numpy_xlstm.parameters import Composite, child, named_grads

SILU = ACTIVATIONS["swish"]
OPTIONS = Options(eps=1e-6, forget_gate="sigmoid", input_gate="exp")


class MemoryCache(NamedTuple):
    """What the backward of :class:`NormedMemory` needs."""

    qkv: Array
    """q, k and v side by side, (B, T, 3 I)."""
    weights: tuple[Array, Array]
    """The weights of i and f that the forward used, (NH, 3 I)."""
    mlstm: FormCache
    norm: NormCache


class NormedMemory(Composite):
    """Gates from q, k and v together, the mLSTM, and a norm for each head.

    The official package calls it ``mLSTMCell``.
    """

    igate = child[Linear]()
    fgate = child[Linear]()
    outnorm = child[MultiHeadLayerNorm]()

    def __init__(
        self, width: int, num_heads: int, dtype: npt.DTypeLike, rng: np.random.Generator
    ) -> None:
        if width % num_heads:
            raise OptionError(
                f"num_heads: expected a divisor of the inner width {width}; got {num_heads}"
            )
        self.num_heads = num_heads
        self.children = {
            "igate": Linear(3 * width, num_heads, dtype=dtype, rng=rng),
            "fgate": Linear(3 * width, num_heads, dtype=dtype, rng=rng),
            "outnorm": MultiHeadLayerNorm(num_heads, width // num_heads, dtype=dtype),
        }
        self.igate.params["weight"][...] = self.fgate.params["weight"][...] = 0
        self.igate.params["bias"][...] = rng.normal(0, 0.1, num_heads)
        self.fgate.params["bias"][...] = forget_bias(num_heads)

    def apply(self, qkv: Array, state: mLSTMState) -> tuple[Array, mLSTMState, MemoryCache]:
        """Forward over q, k and v side by side, (B, T, 3 I)."""
        i, f = self._gates(qkv)
        q, k, v = thirds(qkv)
        h, state, mlstm = mlstm_over_heads(q, k, v, i, f, state, OPTIONS, CHUNK_SIZE)
        y, norm = self.outnorm.apply(h)  # [mblock.5]
        weights = self.igate.params["weight"], self.fgate.params["weight"]
        return y, state, MemoryCache(qkv, weights, mlstm, norm)

    def apply_backward(
        self, dy: Array, cache: MemoryCache, dstate: mLSTMState
    ) -> tuple[tuple[Array, Array, Array], mLSTMState, Grads]:
        """Backward: gradients of q, k and v, of the state and of the parameters."""
        dh, norm_grads = self.outnorm.apply_backward(dy, cache.norm)
        dq, dk, dv, di, df, dstate0 = mlstm_over_heads_backward(dh, cache.mlstm, dstate)
        dqkv, gate_grads = self._gates_backward(di, df, cache)
        for dx, from_gates in zip((dq, dk, dv), thirds(dqkv), strict=True):
            dx += from_gates  # [mblock.12]
        return (dq, dk, dv), dstate0, named_grads(gate_grads | {"outnorm": norm_grads})

    def _gates(self, qkv: Array) -> tuple[Array, Array]:
        """Both gates in one product: they are far narrower than what they look at."""
        i, f, NH = self.igate.params, self.fgate.params, self.num_heads
        both = times_transposed(rows(qkv), np.concatenate((i["weight"], f["weight"])))
        both += np.concatenate((i["bias"], f["bias"]))  # [mblock.4]
        both = both.reshape(*qkv.shape[:-1], 2 * NH)
        return both[..., :NH], both[..., NH:]

    def _gates_backward(
        self, di: Array, df: Array, cache: MemoryCache
    ) -> tuple[Array, dict[str, Grads]]:
        dboth, NH = np.concatenate((di, df), axis=-1), self.num_heads
        dW, db = rows(dboth).T @ rows(cache.qkv), rows(dboth).sum(axis=0)  # [mblock.11]
        grads = {
            "igate": {"weight": dW[:NH], "bias": db[:NH]},
            "fgate": {"weight": dW[NH:], "bias": db[NH:]},
        }
        return dboth @ np.concatenate(cache.weights), grads


def thirds(qkv: Array) -> tuple[Array, Array, Array]:
    """Views of q, k and v, which lie side by side along the last axis."""
    width = qkv.shape[-1] // 3
    return qkv[..., :width], qkv[..., width : 2 * width], qkv[..., 2 * width :]


class mLSTMLayerCache(NamedTuple):
    """What the backward of :class:`mLSTMLayer` needs."""

    up: LinearGroupCache
    conv: CausalConv1dCache
    active: Array
    """SiLU of the convolution, and of the branch of the gate, (2, B, T, I)."""
    silu: tuple[Array, ...]
    """What its backward needs."""
    projections: tuple[HeadwiseLinearCache, HeadwiseLinearCache, HeadwiseLinearCache]
    memory: MemoryCache
    read: Array
    """What is gated: the memory's output and the skip, (B, T, I)."""
    skip: Array
    """The learnable skip that the forward used."""
    down: LinearCache
    dropped: Array | None


class mLSTMLayer(Recurrent[mLSTMBlockState, mLSTMLayerCache]):
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
    params : dict[str, np.ndarray]
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

    up = child[LinearGroup]("(up)")
    q_proj = child[HeadwiseLinear]()
    k_proj = child[HeadwiseLinear]()
    v_proj = child[HeadwiseLinear]()
    conv1d = child[CausalConv1d]()
    memory = child[NormedMemory]("mlstm_cell")
    proj_down = child[Linear]()

    def __init__(
        self,
        config: mLSTMLayerConfig,
        *,
        num_blocks: int = 1,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.config = config = own_config(config, mLSTMLayerConfig)
        self.width = D = check_positive("embedding_dim", config.embedding_dim)
        self.inner = inner = config.proj_up_dim(D)
        if inner % config.qkv_proj_blocksize:
            raise OptionError(
                f"qkv_proj_blocksize: expected a divisor of the inner width {inner}; "
                f"got {config.qkv_proj_blocksize}"
            )
        self.dropout = Dropout(config.dropout)
        rng = generator_or_new(rng)
        widths = {"x": inner, "z": inner}
        blocks, bias = inner // config.qkv_proj_blocksize, config.bias
        self.children = {
            "(up)": LinearGroup(D, widths, bias, fused="proj_up", dtype=dtype, rng=rng),
            **{
                name: HeadwiseLinear(inner, blocks, bias, dtype=dtype, rng=rng)
                for name in ("q_proj", "k_proj", "v_proj")
            },
            "conv1d": CausalConv1d(inner, config.conv1d_kernel_size, dtype=dtype, rng=rng),
            "mlstm_cell": NormedMemory(inner, config.num_heads, dtype, rng),
            "proj_down": Linear(inner, D, bias, dtype=dtype, rng=rng),
        }
        self.own = {"learnable_skip": np.ones(inner, self.proj_down.dtype)}
        self._initialise(num_blocks, rng)

    def _initialise(self, num_blocks: int, rng: np.random.Generator) -> None:
        D, params = self.width, self.params
        for name in ("proj_up", "q_proj", "k_proj", "v_proj"):
            small_init(params[f"{name}.weight"], D, rng)
        wang_init(params["proj_down.weight"], D, num_blocks, rng)
        if self.config.bias:
            params["proj_up.bias"][...] = params["proj_down.bias"][...] = 0

    def empty_state(self, batch_size: int) -> mLSTMBlockState:
        """Return the state before a sequence, without checks."""
        NH = self.config.num_heads
        DH = self.inner // NH
        memory = empty_state(batch_size, NH, DH, DH, self.dtype, OPTIONS)
        return mLSTMBlockState(self.conv1d.init_state(batch_size), memory)

    def apply(
        self, x: Array, state: mLSTMBlockState, rng: np.random.Generator | None
    ) -> tuple[Array, mLSTMBlockState, mLSTMLayerCache]:
        """Forward, without checks."""
        (inner, z), up = self.up.apply(x)  # [mblock.1]
        convolved, conv_state, conv = self.conv1d.apply(inner, state.conv)
        both, silu_cache = SILU.forward(np.concatenate((convolved[None], z[None])))  # [mblock.2]
        active, gate = both
        qkv = np.empty((*x.shape[:-1], 3 * self.inner), x.dtype)
        q, k, v = thirds(qkv)
        _, q_cache = self.q_proj.apply(active, out=q)  # [mblock.3]
        _, k_cache = self.k_proj.apply(active, out=k)
        _, v_cache = self.v_proj.apply(inner, out=v)
        read, memory_state, memory = self.memory.apply(qkv, state.mlstm)
        skip = self.own["learnable_skip"]
        read += skip * active  # [mblock.6]
        y, down = self.proj_down.apply(read * gate)  # [mblock.7]
        y, dropped = self.dropout.apply(y, rng)
        cache = mLSTMLayerCache(
            up,
            conv,
            both,
            silu_cache,
            (q_cache, k_cache, v_cache),
            memory,
            read,
            skip,
            down,
            dropped,
        )
        return y, mLSTMBlockState(conv_state, memory_state), cache

    def apply_backward(
        self, dy: Array, cache: mLSTMLayerCache, dstate: mLSTMBlockState
    ) -> tuple[Array, mLSTMBlockState, Grads]:
        """Backward, without checks."""
        dy = self.dropout.apply_backward(dy, cache.dropped)
        dgated, down_grads = self.proj_down.apply_backward(dy, cache.down)
        active, gate = cache.active
        dboth = np.empty_like(cache.active)
        np.multiply(dgated, cache.read, out=dboth[1])  # [mblock.8]
        dread = dgated
        dread *= gate  # [mblock.9]
        dskip = np.einsum("btd,btd->d", dread, active)
        (dq, dk, dv), dmemory, memory_grads = self.memory.apply_backward(
            dread, cache.memory, dstate.mlstm
        )
        q_cache, k_cache, v_cache = cache.projections
        dactive = np.multiply(dread, cache.skip, out=dboth[0])  # [mblock.10]
        from_q, q_grads = self.q_proj.apply_backward(dq, q_cache)
        from_k, k_grads = self.k_proj.apply_backward(dk, k_cache)
        dactive += from_q  # [mblock.13]
        dactive += from_k
        dboth = SILU.backward(dboth, cache.silu)
        dconvolved, dz = dboth
        dinner, v_grads = self.v_proj.apply_backward(dv, v_cache)
        from_conv, dconv, conv_grads = self.conv1d.apply_backward(
            dconvolved, cache.conv, dstate.conv
        )
        dinner += from_conv  # [mblock.14]
        dx, up_grads = self.up.apply_backward([dinner, dz], cache.up)
        parts = {
            "(up)": up_grads | {"learnable_skip": dskip},
            "q_proj": q_grads,
            "k_proj": k_grads,
            "v_proj": v_grads,
            "conv1d": conv_grads,
            "mlstm_cell": memory_grads,
            "proj_down": down_grads,
        }
        return dx, mLSTMBlockState(dconv, dmemory), named_grads(parts)
