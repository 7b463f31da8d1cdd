"""A stack of recurrent blocks with a norm behind it, and recomputation block by block."""

import copy
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import CacheError
from numpy_xlstm.layers import LayerNorm, Recurrent
from numpy_xlstm.layers.norms import Norm
from numpy_xlstm.models.configs import mLSTMBlockConfig, sLSTMBlockConfig, xLSTMBlockStackConfig
from numpy_xlstm.models.xlstm_block import ResidualBlock, mLSTMBlock, sLSTMBlock
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, generator_or_new


class Recomputed(NamedTuple):
    """Kept instead of a block's cache: what its forward was given, to run it again."""

    x: Array
    state: Any
    rng: np.random.Generator | None


class StackCache(NamedTuple):
    """What the backward of a stack needs: the cache of each block, or what to find it with."""

    blocks: list[Any]
    norm: Any


class BlockStack(Recurrent):
    """Blocks one after the other, ``blocks.0``, ``blocks.1``, …, and then a norm, if there is one.

    The state is a tuple of the states of the blocks.
    """

    Cache = StackCache

    def __init__(self, blocks: list[ResidualBlock], norm: Norm | None, norm_name: str) -> None:
        self.blocks, self.norm = blocks, norm
        self.in_features = self.out_features = blocks[0].in_features
        self.dropout = max(block.dropout for block in blocks)
        self.parts = {"blocks": "blocks"} | ({} if norm is None else {"norm": norm_name})

    def init_state(self, batch_size: int) -> tuple[Any, ...]:
        """Return the empty state, one part for each block: zeros, and m = −inf."""
        return tuple(block.init_state(batch_size) for block in self.blocks)

    def check_cache(self, cache: Any) -> None:
        """Raise :class:`CacheError` unless such a stack of such blocks has made the cache."""
        super().check_cache(cache)
        here = f"{len(self.blocks)} blocks with{'out' * (self.norm is None)} a norm"
        there = f"{len(cache.blocks)} blocks with{'out' * (cache.norm is None)} a norm"
        if here != there:
            raise CacheError(f"cache: expected that of {here}; got that of {there}")
        for block, kept in zip(self.blocks, cache.blocks, strict=True):
            if not isinstance(kept, Recomputed):
                block.check_cache(kept)

    def check_state(self, state: tuple[Any, ...]) -> None:
        """Raise :class:`StateError` for a state that no sequence leads to."""
        for block, part in zip(self.blocks, state, strict=True):
            block.check_state(part)

    def compute(
        self,
        x: Array,
        state: tuple[Any, ...],
        rng: np.random.Generator | None = None,
        recompute: bool = False,
    ) -> tuple[Array, tuple[Any, ...], StackCache]:
        """Forward, without checks; with ``recompute``, only the input of each block is kept."""
        after, caches, norm = [], [], None
        for block, before in zip(self.blocks, state, strict=True):
            kept = Recomputed(x, before, copy.deepcopy(rng)) if recompute else None
            x, now, cache = block.compute(x, before, rng)
            after.append(now)
            caches.append(kept or cache)
        if self.norm is not None:
            x, norm = self.norm.compute(x)
        return x, tuple(after), StackCache(caches, norm)

    def compute_backward(
        self, dy: Array, cache: StackCache, dstate: tuple[Any, ...]
    ) -> tuple[Array, tuple[Any, ...], Grads]:
        """Backward, without checks."""
        before, grads, norm_grads = list(dstate), [Grads() for _ in self.blocks], {}
        if self.norm is not None:
            dy, norm_grads["norm"] = self.norm.compute_backward(dy, cache.norm)
        for n in reversed(range(len(self.blocks))):
            block, kept = self.blocks[n], cache.blocks[n]
            if isinstance(kept, Recomputed):
                *_, kept = block.compute(kept.x, kept.state, copy.deepcopy(kept.rng))
            dy, before[n], grads[n] = block.compute_backward(dy, kept, dstate[n])
        return dy, tuple(before), self.named_grads(blocks=grads, **norm_grads)


class xLSTMBlockStack(BlockStack):
    """The stack of the first paper: xLSTM[a:b], mLSTM and sLSTM blocks in any order.

    Parameters
    ----------
    config : xLSTMBlockStackConfig
        The stack's configuration.
    dtype, rng
        As in :class:`~numpy_xlstm.Linear`.

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
        rng: np.random.Generator | None = None,
    ) -> None:
        self.config = config = xLSTMBlockStackConfig.checked(config)
        rng = generator_or_new(rng)
        blocks = [_block(config, n, dtype, rng) for n in range(config.num_blocks)]
        norm = LayerNorm(config.embedding_dim, dtype=dtype) if config.add_post_blocks_norm else None
        super().__init__(blocks, norm, "post_blocks_norm")


def _block(
    config: xLSTMBlockStackConfig, n: int, dtype: npt.DTypeLike, rng: np.random.Generator
) -> ResidualBlock:
    """Block n, whose layer has from the stack what the official package lets it have."""
    options: dict[str, Any] = {"num_blocks": config.num_blocks, "dtype": dtype, "rng": rng}
    shared: dict[str, Any] = {"embedding_dim": config.embedding_dim, "dropout": config.dropout}
    if config.kinds[n] == "mlstm":
        inner = cast(mLSTMBlockConfig, config.mlstm_block).mlstm
        layer = replace(inner, bias=config.bias, **shared)
        return mLSTMBlock(mLSTMBlockConfig(layer), **options)
    given = cast(sLSTMBlockConfig, config.slstm_block)
    block = replace(given, slstm=replace(given.slstm, **shared))
    return sLSTMBlock(block, block=n, **options)
