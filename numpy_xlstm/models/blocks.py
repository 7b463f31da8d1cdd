"""Residual blocks with a recurrent and an optional feed-forward layer, and stacks of blocks."""

import copy
from collections import namedtuple
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import OptionError
from numpy_xlstm.kernels import compiled
from numpy_xlstm.layers import GatedFeedForward, LayerNorm, Recurrent
from numpy_xlstm.layers.activations import checked_dropout, drop, drop_backward
from numpy_xlstm.layers.base import RunOptions, S, Step, check_fit
from numpy_xlstm.layers.norms import Norm
from numpy_xlstm.models.layer_configs import mLSTMBlockConfig, sLSTMBlockConfig
from numpy_xlstm.models.mlstm_layer import mLSTMBlockState, mLSTMLayer
from numpy_xlstm.models.paper_configs import xLSTMBlockStackConfig
from numpy_xlstm.models.slstm_layer import sLSTMBlockState, sLSTMLayer
from numpy_xlstm.models.state_dict import StateDict
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, check_kind, generator_or_new
from numpy_xlstm.numerics.initial import small_init, wang_init
from numpy_xlstm.numerics.memory import check_fits
from numpy_xlstm.numerics.threads import parallel_map, spread
from numpy_xlstm.trees import join_states, rows_of

NAMES = {"norm": "xlstm_norm", "layer": "xlstm", "ffn_norm": "ffn_norm", "ffn": "ffn"}
"""Names of the submodules of a block of the xLSTM paper in the package ``xlstm``."""


BlockCache = namedtuple("BlockCache", "norm layer ffn_norm ffn dropped")
"""Residuals of the parts of a block."""


class ResidualBlock(Recurrent[S]):
    """A block x + layer(norm(x)), followed by x + ffn(norm(x)) if it has a feed-forward layer.

    The block has the state of its layer. ``names`` has the names of the submodules. ``ffn_dropout``
    is the probability that an output of the feed-forward layer is dropped in training.
    """

    def __init__(
        self,
        layer: Recurrent[S],
        norm: Norm,
        ffn: GatedFeedForward | None = None,
        ffn_norm: Norm | None = None,
        ffn_dropout: float = 0.0,
        names: dict[str, str] = NAMES,
    ) -> None:
        if (ffn is None) != (ffn_norm is None):
            got = "ffn" if ffn_norm is None else "ffn_norm"
            raise OptionError(f"ffn, ffn_norm: expected both or neither; got only {got}")
        D = layer.in_features
        for name, part in {"layer": layer, "norm": norm, "ffn": ffn, "ffn_norm": ffn_norm}.items():
            if part is not None:
                check_fit(name, part, D, D, layer.dtype or norm.dtype)
        self.layer, self.norm, self.ffn, self.ffn_norm = layer, norm, ffn, ffn_norm
        self.in_features = self.out_features = D
        self.ffn_dropout = checked_dropout(ffn_dropout)
        self.dropout = max(layer.dropout, ffn_dropout)  # above 0 if anything is dropped
        self.submodules = {n: names[n] for n in names if getattr(self, n) is not None}

    def init_state(self, batch_size: int) -> S:
        """Return the empty state of the layer, with the batch first: zeros, and m = −inf."""
        state: S = self.layer.inner_start(batch_size)
        return state

    def compute(self, x: Array, state: Any, options: RunOptions) -> tuple[Array, Any, BlockCache]:
        normed, norm = self.norm.compute(x)
        y, state, layer = self.layer.compute(normed, state, options)
        x = x + y  # [block.1]
        if self.ffn is None or self.ffn_norm is None:
            return x, state, BlockCache(norm, layer, None, None, None)
        normed, ffn_norm = self.ffn_norm.compute(x)
        y, ffn = self.ffn.compute(normed)
        y, dropped = drop(y, self.ffn_dropout, options.rng)
        return x + y, state, BlockCache(norm, layer, ffn_norm, ffn, dropped)  # [block.2]

    def decode_step(self) -> Step:
        norm, layer = self.norm.decode_step(), self.layer.decode_step()
        ffn_norm = None if self.ffn_norm is None else self.ffn_norm.decode_step()
        ffn = None if self.ffn is None else self.ffn.decode_step()

        def step(x: Array, state: Any) -> tuple[Array, Any]:
            y, state = layer(norm(x), state)
            out = x + y
            if ffn is not None and ffn_norm is not None:
                out = out + ffn(ffn_norm(out))
            return out, state

        return step

    def compute_backward(
        self, dy: Array, cache: BlockCache, dstate: Any
    ) -> tuple[Array, Any, Grads]:
        grads = {}
        if self.ffn is not None and self.ffn_norm is not None:
            dffn = drop_backward(dy, cache.dropped)
            dnormed, grads["ffn"] = self.ffn.compute_backward(dffn, cache.ffn)
            dx, grads["ffn_norm"] = self.ffn_norm.compute_backward(dnormed, cache.ffn_norm)
            dy = dy + dx  # [block.3]
        dnormed, dstate, grads["layer"] = self.layer.compute_backward(dy, cache.layer, dstate)
        dx, grads["norm"] = self.norm.compute_backward(dnormed, cache.norm)
        return dy + dx, dstate, self.named_grads(**grads)  # [block.4]


class mLSTMBlock(ResidualBlock[mLSTMBlockState]):
    """A residual block of layer norm and mLSTM layer: the pre up-projection block.

    Parameters
    ----------
    config : mLSTMBlockConfig
        The layer's configuration; ``mlstm.embedding_dim`` must be set.
    **options
        ``num_blocks``, ``dtype`` and ``rng``, as in :class:`~numpy_xlstm.mLSTMLayer`.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mLSTMBlockConfig, mLSTMLayerConfig
    >>> config = mLSTMBlockConfig(mlstm=mLSTMLayerConfig(embedding_dim=16))
    >>> block = mLSTMBlock(config, rng=np.random.default_rng(0))
    >>> y, state, cache = block.forward(np.ones((2, 5, 16)))
    >>> dx, dstate0, grads = block.backward(np.ones_like(y), cache)
    >>> y.shape, state._fields
    ((2, 5, 16), ('conv', 'mlstm'))
    """

    def __init__(self, config: mLSTMBlockConfig, **options: Any) -> None:
        check_kind("config", config, mLSTMBlockConfig)
        layer = mLSTMLayer(config.mlstm, **options)
        super().__init__(layer, LayerNorm(layer.in_features, dtype=layer.dtype))


class sLSTMBlock(ResidualBlock[sLSTMBlockState]):
    """A residual block of sLSTM and gated feed-forward layer: the post up-projection block.

    Parameters
    ----------
    config : sLSTMBlockConfig
        Configuration of both layers; ``slstm.embedding_dim`` must be set.
    **options
        ``block``, ``num_blocks``, ``dtype`` and ``rng``, as in :class:`~numpy_xlstm.sLSTMLayer`.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import sLSTMBlockConfig, sLSTMLayerConfig
    >>> config = sLSTMBlockConfig(slstm=sLSTMLayerConfig(embedding_dim=16))
    >>> block = sLSTMBlock(config, rng=np.random.default_rng(0))
    >>> y, state, cache = block.forward(np.ones((2, 5, 16)))
    >>> dx, dstate0, grads = block.backward(np.ones_like(y), cache)
    >>> y.shape, state._fields
    ((2, 5, 16), ('conv', 'slstm'))
    """

    def __init__(self, config: sLSTMBlockConfig, **options: Any) -> None:
        check_kind("config", config, sLSTMBlockConfig)
        options["rng"] = rng = generator_or_new(options.get("rng"))
        layer = sLSTMLayer(config.slstm, **options)
        D, dtype, up = layer.in_features, layer.dtype, config.feedforward
        norm = LayerNorm(D, dtype=dtype)
        if up is None:
            super().__init__(layer, norm)
            return
        start = small_init(D), wang_init(D, options.get("num_blocks", 1))
        more: dict[str, Any] = {"deviations": start, "dtype": dtype, "rng": rng}
        ffn = GatedFeedForward(D, up.proj_up_dim(D), up.act_fn, up.bias, **more)
        super().__init__(layer, norm, ffn, LayerNorm(D, dtype=dtype), up.dropout)


WORTH_THREADS = 2**17
"""Smallest size of an input (B, T, D) for which a stack with compiled kernels computes the halves
of the batch on two threads. The backward then holds the gradients of all parameters twice."""


class Arguments(NamedTuple):
    """Arguments of a block, from which the backward computes its residuals again."""

    x: Array
    state: Any
    options: RunOptions


class StackCache(NamedTuple):
    """Residuals of a stack."""

    blocks: list[Any]  # residuals of each block, or its :class:`Arguments`
    norm: Any  # residuals of the norm, if there is one


PaperState = mLSTMBlockState | sLSTMBlockState
"""State of a block of the xLSTM paper."""


class BlockStack(Recurrent[tuple[S, ...]]):
    """Blocks in sequence, ``blocks.0``, ``blocks.1``, …, followed by an optional norm.

    The state is a tuple of the states of the blocks.
    """

    recompute: bool = False
    """Whether a forward keeps only the input of each block, and the backward computes its residuals
    again. This takes about a third more time and a fraction of the memory. The result is the same,
    bit for bit."""

    def __init__(self, blocks: list[ResidualBlock[S]], norm: Norm | None, norm_name: str) -> None:
        if not blocks:
            raise OptionError("blocks: expected at least one; got none")
        D, dtype = blocks[0].in_features, blocks[0].dtype
        for n, block in enumerate(blocks):
            check_fit(f"blocks[{n}]", block, D, D, dtype)
        if norm is not None:
            check_fit("norm", norm, D, D, dtype)
        self.blocks, self.norm = blocks, norm
        self.in_features = self.out_features = D
        self.dropout = max(block.dropout for block in blocks)
        self.submodules = {"blocks": "blocks"} | ({} if norm is None else {"norm": norm_name})

    def init_state(self, batch_size: int) -> tuple[S, ...]:
        """Return the empty state, with one entry for each block: zeros, and m = −inf."""
        return tuple(block.init_state(batch_size) for block in self.blocks)

    def compute(self, x: Array, state: Any, options: RunOptions) -> tuple[Array, Any, Any]:
        """Compute the forward without checks; return a StackCache, or one for each half of x."""
        if x.size < WORTH_THREADS or options.rng is not None or not compiled(x.dtype):
            return self._compute(x, state, options)

        def half(rows: slice) -> tuple[Array, Any, StackCache]:
            some = options._replace(lengths=rows_of(options.lengths, rows))
            return self._compute(x[rows], rows_of(state, rows), some)

        # The halves do not depend on the number of threads, and so neither does rounding.
        ys, states, caches = zip(*parallel_map(half, spread(len(x), 2)), strict=True)
        return join_states(ys), join_states(states), caches

    def _compute(self, x: Array, state: Any, options: RunOptions) -> tuple[Array, Any, StackCache]:
        after, kept, norm = [], list[Any](), None
        for block, before in zip(self.blocks, state, strict=True):
            if self.recompute:
                rng = copy.deepcopy(options.rng)  # as it is before the block draws from it
                kept.append(Arguments(x, before, options._replace(rng=rng)))
            x, now, cache = block.compute(x, before, options)
            after.append(now)
            if not self.recompute:
                kept.append(cache)
        if self.norm is not None:
            x, norm = self.norm.compute(x)
        return x, tuple(after), StackCache(kept, norm)

    def decode_step(self) -> Step:
        blocks = [block.decode_step() for block in self.blocks]
        norm = None if self.norm is None else self.norm.decode_step()

        def step(x: Array, state: Any) -> tuple[Array, Any]:
            after = []
            for block, before in zip(blocks, state, strict=True):
                x, now = block(x, before)
                after.append(now)
            return x if norm is None else norm(x), tuple(after)

        return step

    def compute_backward(
        self, dy: Array, cache: Any, dstate: tuple[Any, ...]
    ) -> tuple[Array, tuple[Any, ...], Grads]:
        if isinstance(cache, StackCache):
            return self._compute_backward(dy, cache, dstate)

        def half(n: int) -> tuple[Array, tuple[Any, ...], Grads]:
            rows = spread(len(dy), 2)[n]
            return self._compute_backward(dy[rows], cache[n], rows_of(dstate, rows))

        dxs, dstates, (grads, more) = zip(*parallel_map(half, range(len(cache))), strict=True)
        sums = parallel_map(lambda name: grads[name] + more[name], list(grads))
        return join_states(dxs), join_states(dstates), dict(zip(grads, sums, strict=True))

    def _compute_backward(
        self, dy: Array, cache: StackCache, dstate: tuple[Any, ...]
    ) -> tuple[Array, tuple[Any, ...], Grads]:
        before, grads = list(dstate), dict[str, Any](blocks=[{} for _ in self.blocks])
        if self.norm is not None:
            dy, grads["norm"] = self.norm.compute_backward(dy, cache.norm)
        for n in reversed(range(len(self.blocks))):
            block, kept = self.blocks[n], cache.blocks[n]
            if isinstance(kept, Arguments):
                options = copy.deepcopy(kept.options)  # another backward draws the same again
                *_, kept = block.compute(kept.x, kept.state, options)
            dy, before[n], grads["blocks"][n] = block.compute_backward(dy, kept, before[n])
        return dy, tuple(before), self.named_grads(**grads)


class xLSTMBlockStack(StateDict, BlockStack[PaperState]):
    """The stack of the xLSTM paper, xLSTM[a:b]: mLSTM and sLSTM blocks in any order.

    Parameters
    ----------
    config : xLSTMBlockStackConfig
        The stack's configuration.
    dtype, rng
        As in :class:`~numpy_xlstm.xLSTMLMModel`.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mLSTMBlockConfig, sLSTMBlockConfig, xLSTMBlockStackConfig
    >>> config = xLSTMBlockStackConfig(
    ...     mlstm_block=mLSTMBlockConfig(), slstm_block=sLSTMBlockConfig(),
    ...     num_blocks=3, embedding_dim=16, slstm_at=[1])
    >>> stack = xLSTMBlockStack(config, rng=np.random.default_rng(0))
    >>> y, state, cache = stack.forward(np.ones((2, 5, 16)))
    >>> [type(part).__name__ for part in state]
    ['mLSTMBlockState', 'sLSTMBlockState', 'mLSTMBlockState']
    """

    def __init__(
        self,
        config: xLSTMBlockStackConfig,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        check_kind("config", config, xLSTMBlockStackConfig)
        self.config = config = replace(config)  # the list in it may be changed
        rng, blocks = generator_or_new(rng), list[ResidualBlock]()
        options: dict[str, Any] = {"num_blocks": config.num_blocks, "dtype": dtype, "rng": rng}
        (mlstm, slstm), places = config.block_configs(), config.slstm_places
        counts = {"slstm": len(places), "mlstm": config.num_blocks - len(places)}
        for n in range(config.num_blocks):
            kind = "slstm" if n in places else "mlstm"
            if kind == "slstm":
                blocks.append(sLSTMBlock(slstm, block=n, **options))
            else:
                blocks.append(mLSTMBlock(mlstm, **options))
            if kind in counts:  # all blocks of a kind have the same size
                check_fits([(blocks[n].num_parameters,)], dtype, rng, times=counts.pop(kind))
        norm = LayerNorm(config.embedding_dim, dtype=dtype) if config.add_post_blocks_norm else None
        super().__init__(blocks, norm, "post_blocks_norm")
