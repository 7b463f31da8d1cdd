"""The sLSTM layer of the first paper: convolution, gates head by head, recurrence, norm.

Derived in ``docs/blocks/slstm-block.md``, whose tags are cited here.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.scan import (
    ScanCache,
    scan,
    scan_backward,
    steps_first,
)
from numpy_xlstm.cells.slstm.pointwise import sLSTMPointwise
from numpy_xlstm.cells.state_form import StateForm
from numpy_xlstm.cells.states import sLSTMState
from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers import (
    ACTIVATIONS,
    CausalConv1d,
    CausalConv1dCache,
    Dropout,
    HeadwiseLinear,
    MultiHeadLayerNorm,
    NormCache,
)
from numpy_xlstm.models.block import Grads, Recurrent
from numpy_xlstm.models.config import own_config
from numpy_xlstm.models.configs import sLSTMLayerConfig
from numpy_xlstm.models.initialisation import forget_bias, powerlaw_forget_bias, small_init
from numpy_xlstm.models.states import sLSTMBlockState
from numpy_xlstm.numerics import Array, check_positive, check_whole, checked_dtype, generator_or_new
from numpy_xlstm.parameters import Parameterised, child, named_grads

GATES = ("fgate", "igate", "zgate", "ogate")
"""The weights that feed i, f, z and o: the official package has the names of i and f swapped."""

POINTWISE = sLSTMPointwise("sigmoid")
SILU = ACTIVATIONS["swish"]


class RecurrentParameters(Parameterised):
    """R (NH, 4·DH, DH) and b (4·NH·DH,) under the official names, gate by gate: i, f, z, o."""

    def __init__(
        self,
        config: sLSTMLayerConfig,
        block: int,
        num_blocks: int,
        dtype: npt.DTypeLike,
        rng: np.random.Generator,
    ) -> None:
        H, NH = config.embedding_dim, config.num_heads
        DH, bound = H // NH, H**-0.5
        R = np.zeros((NH, 4 * DH, DH))
        if config.recurrent_weight_init == "standard":
            R[...] = rng.uniform(-bound, bound, R.shape)
        b = np.zeros((4, NH, DH))
        if config.bias_init == "standard":
            b[...] = rng.uniform(-bound, bound, b.shape)
        elif config.bias_init == "powerlaw_blockdependent":
            b[1] = powerlaw_forget_bias(DH, block, num_blocks)
        elif config.bias_init == "small_init":
            b[1] = forget_bias(DH)
        to = checked_dtype(dtype)
        self.params = {"_recurrent_kernel_": R.astype(to), "_bias_": b.reshape(-1).astype(to)}


class sLSTMLayerCache(NamedTuple):
    """What the backward of :class:`sLSTMLayer` needs; steps first, (T, B, …)."""

    conv: CausalConv1dCache | None
    silu: tuple[Array, ...] | None
    """What the backward of SiLU needs."""
    inputs: tuple[Array, Array]
    """What feeds i and f, and what feeds z and o, (T, B, D)."""
    weights: tuple[Array, ...]
    """The weights of i, f, z and o, (NH, DH, DH)."""
    scan: ScanCache
    dropped: Array | None
    norm: NormCache


class sLSTMLayer(Recurrent[sLSTMBlockState, sLSTMLayerCache]):
    r"""sLSTM whose gates see a convolution, and a norm for each head (xLSTM paper, Figure 10).

    .. math::
        a = \mathrm{SiLU}(\mathrm{conv}(x)), \quad
        \tilde\imath, \tilde f = W a, \quad \tilde z, \tilde o = W x, \quad
        y = \mathrm{norm}(\mathrm{sLSTM}(\tilde\imath, \tilde f, \tilde z, \tilde o))

    Parameters
    ----------
    config : sLSTMLayerConfig
        Sizes; ``embedding_dim`` must be set.
    block, num_blocks : int
        Number of the block in the stack and how many there are, for the initial forget bias.
    dtype : dtype
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        Under the official names. ``fgate.weight`` feeds the input gate and ``igate.weight`` the
        forget gate, as the official package has it, for the sake of its checkpoints.

    Raises
    ------
    OptionError
        If ``num_heads`` does not divide the width.

    Examples
    --------
    >>> import numpy as np
    >>> layer = sLSTMLayer(sLSTMLayerConfig(embedding_dim=8), rng=np.random.default_rng(0))
    >>> y, state, cache = layer.forward(np.ones((2, 5, 8)))
    >>> y.shape, state.conv.shape, state.slstm.c.shape
    ((2, 5, 8), (2, 3, 8), (2, 8))
    """

    conv1d = child[CausalConv1d]()
    cell = child[RecurrentParameters]("slstm_cell")
    group_norm = child[MultiHeadLayerNorm]()

    def __init__(
        self,
        config: sLSTMLayerConfig,
        *,
        block: int = 0,
        num_blocks: int = 1,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.config = config = own_config(config, sLSTMLayerConfig)
        self.width = D = check_positive("embedding_dim", config.embedding_dim)
        self.num_heads = NH = config.num_heads
        if D % NH:
            raise OptionError(f"num_heads: expected a divisor of the width {D}; got {NH}")
        check_whole("block", block)
        check_positive("num_blocks", num_blocks)
        self.head_dim = D // NH
        self.dropout = Dropout(config.dropout)
        rng = generator_or_new(rng)
        self.children = {
            **{name: HeadwiseLinear(D, NH, dtype=dtype, rng=rng) for name in GATES},
            "slstm_cell": RecurrentParameters(config, block, num_blocks, dtype, rng),
            "group_norm": MultiHeadLayerNorm(
                NH, self.head_dim, weight=config.group_norm_weight, dtype=dtype
            ),
        }
        if config.conv1d_kernel_size:
            kernel = config.conv1d_kernel_size
            self.children |= {"conv1d": CausalConv1d(D, kernel, dtype=dtype, rng=rng)}
        for name in GATES:
            small_init(self.children[name].params["weight"], D, rng)

    @property
    def has_conv(self) -> bool:
        """Whether there is a convolution."""
        return self.config.conv1d_kernel_size > 0

    def empty_state(self, batch_size: int) -> sLSTMBlockState:
        """Return the state before a sequence, without checks."""
        conv = self.conv1d.init_state(batch_size) if self.has_conv else None
        return sLSTMBlockState(conv, self._form(batch_size).start(None))

    def apply(
        self, x: Array, state: sLSTMBlockState, rng: np.random.Generator | None
    ) -> tuple[Array, sLSTMBlockState, sLSTMLayerCache]:
        """Forward, without checks."""
        conv_state, conv, silu_cache, inputs = None, None, None, 2 * (_time_major(x),)
        if self.has_conv:
            convolved, conv_state, conv = self.conv1d.apply(x, state.conv)
            active, silu_cache = SILU.forward(_time_major(convolved))  # [sblock.1]
            inputs = active, inputs[1]
        weights = tuple(self.children[name].params["weight"] for name in GATES)
        bias = self.cell.params["_bias_"].reshape(4, self.num_heads, self.head_dim, 1)

        def source(block: slice, out: Array) -> None:
            columns = [self._by_head(rows[block]).swapaxes(1, 2) for rows in inputs]
            pre = np.empty((*bias.shape[:3], columns[0].shape[-1]), x.dtype)
            for n, weight in enumerate(weights):
                np.matmul(weight, columns[n // 2], out=pre[n])
            pre += bias  # [sblock.2]
            out[...] = steps_first(pre.reshape(*bias.shape[:3], len(out), -1))

        hs = np.empty_like(inputs[1])

        def taker(block: slice, outputs: Array) -> None:
            hs[block] = outputs.reshape(hs[block].shape)

        form = self._form(len(x))
        h, memory = form.split(state.slstm)
        R = self.cell.params["_recurrent_kernel_"]
        cache = scan(source, taker, x.shape[1], R, h, memory, POINTWISE)  # [sblock.3]
        hs, dropped = self.dropout.apply(hs, rng)
        y, norm = self.group_norm.apply(hs)  # [sblock.4]
        after = form.join(cache.hs[-1], cache.memory[-1])
        kept = sLSTMLayerCache(conv, silu_cache, inputs, weights, cache, dropped, norm)
        return y.swapaxes(0, 1), sLSTMBlockState(conv_state, after), kept

    def apply_backward(
        self, dy: Array, cache: sLSTMLayerCache, dstate: sLSTMBlockState
    ) -> tuple[Array, sLSTMBlockState, Grads]:
        """Backward, without checks."""
        dhs, norm_grads = self.group_norm.apply_backward(_time_major(dy), cache.norm)
        dhs = self.dropout.apply_backward(dhs, cache.dropped)
        dinputs = tuple(np.empty_like(rows) for rows in cache.inputs)
        dweights = [np.zeros_like(weight) for weight in cache.weights]
        dbias = np.zeros((4, self.num_heads, self.head_dim), dy.dtype)

        def sink(block: slice, dpre: Array) -> None:
            flat = dpre.reshape(*dpre.shape[:3], -1)
            np.add(dbias, flat.sum(axis=-1), out=dbias)  # [sblock.5]
            for n, (rows, drows) in enumerate(zip(cache.inputs, dinputs, strict=True)):
                for gate in (2 * n, 2 * n + 1):
                    dweights[gate] += flat[gate] @ self._by_head(rows[block])  # [sblock.6]
                first, second = (
                    flat[gate].swapaxes(1, 2) @ cache.weights[gate] for gate in (2 * n, 2 * n + 1)
                )
                np.add(first, second, out=self._by_head(drows[block]))  # [sblock.7]

        heads = (*dhs.shape[:2], self.num_heads, self.head_dim)
        form = self._form(len(dy))
        dh, dmemory, dR = scan_backward(
            dhs.reshape(heads), *form.split(dstate.slstm), cache.scan, POINTWISE, sink
        )
        dactive, dx = dinputs
        parts: dict[str, Grads] = {
            name: {"weight": dW} for name, dW in zip(GATES, dweights, strict=True)
        }
        parts["slstm_cell"] = {"_recurrent_kernel_": dR, "_bias_": dbias.reshape(-1)}
        parts["group_norm"] = norm_grads
        dconv, through_gates = None, dactive.swapaxes(0, 1)
        if cache.conv is not None and cache.silu is not None:
            dconvolved = SILU.backward(dactive, cache.silu).swapaxes(0, 1)  # [sblock.8]
            through_gates, dconv, parts["conv1d"] = self.conv1d.apply_backward(
                dconvolved, cache.conv, dstate.conv
            )
        dstate0 = sLSTMBlockState(dconv, form.join(dh, dmemory))
        return dx.swapaxes(0, 1) + through_gates, dstate0, named_grads(parts)

    def _by_head(self, rows: Array) -> Array:
        """View of (steps, B, D) as (NH, steps·B, DH)."""
        return rows.reshape(-1, self.num_heads, self.head_dim).swapaxes(0, 1)

    def _form(self, B: int) -> StateForm[sLSTMState]:
        """What the state of the recurrence is like."""
        return StateForm(sLSTMState, B, self.num_heads, self.head_dim, self.dtype)


def _time_major(x: Array) -> Array:
    """(B, T, D) to a contiguous (T, B, D)."""
    return np.ascontiguousarray(x.swapaxes(0, 1))
