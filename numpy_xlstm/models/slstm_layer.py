"""The sLSTM layer of the xLSTM paper: convolution, gates per head, recurrence, norm.

Derived in ``docs/blocks/slstm-block.md``, whose tags are cited here.
"""

from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import empty_state
from numpy_xlstm.cells.slstm import sLSTMState
from numpy_xlstm.errors import OptionError
from numpy_xlstm.kernels import slstm
from numpy_xlstm.layers import (
    ACTIVATIONS,
    CausalConv1d,
    HeadwiseLinear,
    MultiHeadLayerNorm,
    Recurrent,
)
from numpy_xlstm.layers.activations import drop, drop_backward
from numpy_xlstm.layers.base import RunOptions, Step
from numpy_xlstm.models.layer_configs import sLSTMLayerConfig
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    check_kind,
    checked_divides,
    checked_positive,
    checked_whole,
    generator_or_new,
)
from numpy_xlstm.numerics.initial import small_init
from numpy_xlstm.numerics.memory import check_fits

GATES = ("fgate", "igate", "zgate", "ogate")
"""Maps of i, f, z and o. The official package swaps the names of the first two."""

R_NAME, B_NAME = "slstm_cell._recurrent_kernel_", "slstm_cell._bias_"

SILU = ACTIVATIONS["swish"]


class sLSTMBlockState(NamedTuple):
    """State of an sLSTM block, or its cotangent.

    Parameters
    ----------
    conv : np.ndarray or None
        Last inputs of the convolution, (B, K − 1, D); None without a convolution.
    slstm : sLSTMState
        Memory of the cell, (B, D) each.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import sLSTMBlock, sLSTMBlockConfig, sLSTMLayerConfig
    >>> block = sLSTMBlock(sLSTMBlockConfig(sLSTMLayerConfig(embedding_dim=32)))
    >>> state = block.init_state(2)
    >>> state.conv.shape, state.slstm.c.shape
    ((2, 3, 32), (2, 32))
    """

    conv: Array | None  # last inputs of the convolution, (B, K − 1, D); None without a convolution
    slstm: sLSTMState


sLSTMLayerCache = namedtuple("sLSTMLayerCache", "gates conv silu scan dropped norm")
"""Residuals of the parts, in the order of the forward."""


class sLSTMLayer(Recurrent[sLSTMBlockState]):
    r"""sLSTM with a convolution before its gates and a norm per head (xLSTM paper, Figure 10).

    .. math::
        a = \mathrm{SiLU}(\mathrm{conv}(x)), \quad
        \tilde\imath, \tilde f = W a, \quad \tilde z, \tilde o = W x, \quad
        y = \mathrm{norm}(\mathrm{sLSTM}(\tilde\imath, \tilde f, \tilde z, \tilde o))

    Parameters
    ----------
    config : sLSTMLayerConfig
        Sizes; ``embedding_dim`` must be set.
    block, num_blocks : int
        Index of the block in the stack, and number of blocks, for the initial forget bias.
    dtype, rng
        As in :class:`~numpy_xlstm.xLSTMLMModel`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        Parameters with the official names: W of each gate (NH, DH, DH), R (NH, 4·DH, DH), b (4·D,),
        the kernel of the convolution (D, 1, K). As in the official package, and for compatibility
        with its checkpoints, ``fgate.weight`` belongs to the input gate and ``igate.weight`` to the
        forget gate.

    Examples
    --------
    >>> import numpy as np
    >>> layer = sLSTMLayer(sLSTMLayerConfig(embedding_dim=8), rng=np.random.default_rng(0))
    >>> y, state, cache = layer.forward(np.ones((2, 5, 8)))
    >>> y.shape, state.conv.shape, state.slstm.c.shape
    ((2, 5, 8), (2, 3, 8), (2, 8))
    """

    conv1d: CausalConv1d | None = None

    def __init__(
        self,
        config: sLSTMLayerConfig,
        *,
        block: int = 0,
        num_blocks: int = 1,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        check_kind("config", config, sLSTMLayerConfig)
        D, NH = checked_positive("embedding_dim", config.embedding_dim), config.num_heads
        self.config, self.in_features, self.out_features = config, D, D
        self.head_dim = D // checked_divides("num_heads", NH, "width", D)
        rng = generator_or_new(rng)
        if checked_whole("block", block) >= checked_positive("num_blocks", num_blocks):
            raise OptionError(f"block: expected an index from 0 to {num_blocks - 1}; got {block}")
        options: dict[str, Any] = {"dtype": dtype, "rng": rng}
        self.gates = [HeadwiseLinear(D, NH, deviation=small_init(D), **options) for _ in GATES]
        self.params = self._recurrent_start(block, num_blocks, rng)
        weighted = config.group_norm_weight
        self.group_norm = MultiHeadLayerNorm(NH, self.head_dim, weight=weighted, dtype=dtype)
        names: dict[str, Any] = {"gates": [f"{name}.*" for name in GATES]}
        names |= {"group_norm": "group_norm"}
        if config.conv1d_kernel_size:
            self.conv1d = CausalConv1d(D, config.conv1d_kernel_size, **options)
            names |= {"conv1d": "conv1d"}
        self.submodules = names
        self.dropout = config.dropout

    def _recurrent_start(
        self, block: int, num_blocks: int, rng: np.random.Generator
    ) -> dict[str, Array]:
        """Initialise R (NH, 4·DH, DH) and b (4·NH·DH,), gate by gate: i, f, z, o."""
        (NH, DH), bound = (self.config.num_heads, self.head_dim), self.in_features**-0.5
        check_fits([(4 * NH * DH, DH)], np.float64, rng)
        R, b = np.zeros((NH, 4 * DH, DH)), np.zeros((4, NH, DH))
        if self.config.recurrent_weight_init == "standard":
            R = rng.uniform(-bound, bound, R.shape)
        if self.config.bias_init == "standard":
            b = rng.uniform(-bound, bound, b.shape)
        elif self.config.bias_init == "powerlaw_blockdependent":
            u = np.arange(DH) / max(1, DH - 1)  # the official package has 0/0 for DH = 1
            b[1] = 5 - 12 * u ** (0.3 + 1.3 * block / max(1, num_blocks - 1))
        elif self.config.bias_init == "small_init":
            b[1] = np.linspace(3, 6, DH)
        dtype = self.gates[0].params["weight"].dtype
        return {R_NAME: R.astype(dtype, copy=False), B_NAME: b.reshape(-1).astype(dtype)}

    def init_state(self, batch_size: int) -> sLSTMBlockState:
        memory = empty_state(sLSTMState, batch_size, self.in_features, self.dtype)
        conv = None if self.conv1d is None else self.conv1d.init_state(batch_size)
        return sLSTMBlockState(conv, memory)

    def compute(
        self, x: Array, state: sLSTMBlockState, options: RunOptions
    ) -> tuple[Array, sLSTMBlockState, sLSTMLayerCache]:
        active, conv_state, conv, silu = x, None, None, None
        if self.conv1d is not None and state.conv is not None:
            convolved, conv_state, conv = self.conv1d.compute(x, state.conv, options)
            active, silu = SILU.forward(convolved)  # [sblock.1]
        fed = zip(self.gates, (active, active, x, x), strict=True)
        pre, gates = zip(*(gate.compute(source) for gate, source in fed), strict=True)
        Wx = np.concatenate(pre, axis=-1) + self.params[B_NAME]  # [sblock.2]
        R, lengths = {"R": self.params[R_NAME]}, options.lengths
        h, memory, scan = slstm.forward(Wx, R, state.slstm, lengths, "sigmoid")  # [sblock.3]
        h, dropped = drop(h, self.dropout, options.rng)
        y, norm = self.group_norm.compute(h)  # [sblock.4]
        cache = sLSTMLayerCache(gates, conv, silu, scan, dropped, norm)
        return y, sLSTMBlockState(conv_state, memory), cache

    def decode_step(self) -> Step:
        conv = None if self.conv1d is None else self.conv1d.decode_step()
        norm, b = self.group_norm.decode_step(), self.params[B_NAME].reshape(4, 1, -1).copy()
        NH, DH = self.config.num_heads, self.head_dim
        maps = np.zeros((NH, 3, DH, 4, DH), self.dtype)  # from a, x and h to i, f, z and o
        for gate, linear in enumerate(self.gates):
            maps[:, gate // 2, :, gate] = linear.params["weight"].swapaxes(1, 2)
        maps[:, 2] = self.params[R_NAME].reshape(NH, 4, DH, DH).transpose(0, 3, 1, 2)
        W = maps.reshape(NH, 3 * DH, 4 * DH)

        def step(x: Array, state: sLSTMBlockState) -> tuple[Array, sLSTMBlockState]:
            conv_state, active = None, x
            if conv is not None:
                convolved, conv_state = conv(x, state.conv)
                active, _ = SILU.forward(convolved)  # [sblock.1]
            heads = [array.reshape(-1, NH, DH) for array in (active, x, state.slstm.h)]
            rows = np.concatenate(heads, axis=-1).swapaxes(0, 1)  # (NH, B, 3·DH)
            pre = (rows @ W).reshape(NH, -1, 4, DH)  # [sblock.2]
            by_gate = pre.transpose(2, 1, 0, 3).reshape(4, *x.shape)  # (4, B, H)
            memory = slstm.slstm_step(by_gate + b, state.slstm)  # [sblock.3]
            return norm(memory.h), sLSTMBlockState(conv_state, memory)  # [sblock.4]

        return step

    def compute_backward(
        self, dy: Array, cache: sLSTMLayerCache, dstate: sLSTMBlockState
    ) -> tuple[Array, sLSTMBlockState, Grads]:
        dh, norm = self.group_norm.compute_backward(dy, cache.norm)
        dh = drop_backward(dh, cache.dropped)
        dWx, dmemory, recurrent = slstm.backward(dh, cache.scan, dstate.slstm)
        cell = {R_NAME: recurrent["R"], B_NAME: dWx.sum(axis=(0, 1))}  # [sblock.5]
        taken = zip(self.gates, np.split(dWx, 4, axis=-1), cache.gates, strict=True)
        back = [gate.compute_backward(dpre, kept) for gate, dpre, kept in taken]
        (from_i, from_f, from_z, from_o), gates = zip(*back, strict=True)  # [sblock.6]
        grads = cell | self.named_grads(group_norm=norm, gates=list(gates))
        dactive, dx, dconv = from_i + from_f, from_z + from_o, None  # [sblock.7]
        if self.conv1d is not None and dstate.conv is not None:
            dconvolved = SILU.backward(dactive, cache.silu)  # [sblock.8]
            dactive, dconv, conv1d = self.conv1d.compute_backward(
                dconvolved, cache.conv, dstate.conv
            )
            grads |= self.named_grads(conv1d=conv1d)
        return dx + dactive, sLSTMBlockState(dconv, dmemory), grads
