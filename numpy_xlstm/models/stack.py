"""A stack of recurrent blocks with a norm behind it, and recomputation block by block."""

import copy
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers import LayerNorm, NormCache
from numpy_xlstm.models.block import Grads, Recurrent
from numpy_xlstm.models.config import own_config
from numpy_xlstm.models.configs import (
    mLSTMBlockConfig,
    sLSTMBlockConfig,
    xLSTMBlockStackConfig,
)
from numpy_xlstm.models.xlstm_block import ResidualBlock, mLSTMBlock, sLSTMBlock
from numpy_xlstm.numerics import Array, generator_or_new
from numpy_xlstm.parameters import Parameterised, named_grads


class Recomputed(NamedTuple):
    """Kept instead of a block's cache: what its forward was given, to run it again."""

    x: Array
    state: Any
    rng: np.random.Generator | None


class StackCache(NamedTuple):
    """What the backward of a stack needs: the cache of each block, or what to find it with."""

    blocks: tuple[Any, ...]
    norm: NormCache | None


class BlockStack(Recurrent[tuple[Any, ...], StackCache]):
    """Blocks one after the other, and then a norm.

    Parameters
    ----------
    blocks : list of ResidualBlock
        The blocks, named ``blocks.0``, ``blocks.1``, …; the state is a tuple of theirs.
    norm : Parameterised, optional
        The norm behind them.
    norm_name : str
        What it is called.
    """

    def __init__(
        self, blocks: list[ResidualBlock], norm: Parameterised | None, norm_name: str
    ) -> None:
        self.width = blocks[0].width
        self.num_blocks, self.norm_name = len(blocks), norm_name
        children: dict[str, Parameterised] = {f"blocks.{n}": b for n, b in enumerate(blocks)}
        if norm is not None:
            children[norm_name] = norm
        self.children = children

    @property
    def blocks(self) -> list[ResidualBlock]:
        """The blocks in order."""
        return cast(list[ResidualBlock], list(self.children.values())[: self.num_blocks])

    @property
    def norm(self) -> Any:
        """The norm behind them, or None."""
        return self.children.get(self.norm_name)

    def empty_state(self, batch_size: int) -> tuple[Any, ...]:
        """Return the state before a sequence, without checks."""
        return tuple(block.empty_state(batch_size) for block in self.blocks)

    def apply(
        self,
        x: Array,
        state: tuple[Any, ...],
        rng: np.random.Generator | None,
        recompute: bool = False,
    ) -> tuple[Array, tuple[Any, ...], StackCache]:
        """Forward, without checks; with ``recompute``, only the input of each block is kept."""
        after, caches = [], []
        for block, before in zip(self.blocks, state, strict=True):
            kept = Recomputed(x, before, copy.deepcopy(rng)) if recompute else None
            x, now, cache = block.apply(x, before, rng)
            after.append(now)
            caches.append(kept or cache)
        norm = None
        if self.norm is not None:
            x, norm = self.norm.apply(x)
        return x, tuple(after), StackCache(tuple(caches), norm)

    def apply_backward(
        self, dy: Array, cache: StackCache, dstate: tuple[Any, ...]
    ) -> tuple[Array, tuple[Any, ...], Grads]:
        """Backward, without checks."""
        parts: dict[str, Grads] = {}
        if cache.norm is not None:
            dy, parts[self.norm_name] = self.norm.apply_backward(dy, cache.norm)
        before: list[Any] = []
        for n in reversed(range(self.num_blocks)):
            block, kept = self.blocks[n], cache.blocks[n]
            if isinstance(kept, Recomputed):
                *_, kept = block.apply(kept.x, kept.state, copy.deepcopy(kept.rng))
            dy, dbefore, parts[f"blocks.{n}"] = block.apply_backward(dy, kept, dstate[n])
            before.append(dbefore)
        return dy, tuple(reversed(before)), named_grads(parts)


class xLSTMBlockStack(BlockStack):
    """The stack of the first paper: xLSTM[a:b], mLSTM and sLSTM blocks in any order.

    Parameters
    ----------
    config : xLSTMBlockStackConfig
        The stack's configuration.
    dtype : dtype
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        Under the official names: ``blocks.0.…``, …, ``post_blocks_norm.weight``.

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
        self.config = config = own_config(config, xLSTMBlockStackConfig)
        rng = generator_or_new(rng)
        make: dict[str, Any] = {"mlstm": _mlstm_block, "slstm": _slstm_block}
        blocks = [make[kind](config, n, dtype, rng) for n, kind in enumerate(config.kinds)]
        norm = LayerNorm(config.embedding_dim, dtype=dtype) if config.add_post_blocks_norm else None
        super().__init__(blocks, norm, "post_blocks_norm")


def _mlstm_block(
    config: xLSTMBlockStackConfig, n: int, dtype: npt.DTypeLike, rng: np.random.Generator
) -> mLSTMBlock:
    given = cast(mLSTMBlockConfig, config.mlstm_block)
    layer = replace(given.mlstm, **_shared(config), bias=config.bias)
    return mLSTMBlock(mLSTMBlockConfig(layer), num_blocks=config.num_blocks, dtype=dtype, rng=rng)


def _slstm_block(
    config: xLSTMBlockStackConfig, n: int, dtype: npt.DTypeLike, rng: np.random.Generator
) -> sLSTMBlock:
    given = cast(sLSTMBlockConfig, config.slstm_block)
    layer = replace(given.slstm, **_shared(config))
    block = sLSTMBlockConfig(layer, given.feedforward)
    return sLSTMBlock(block, block=n, num_blocks=config.num_blocks, dtype=dtype, rng=rng)


def _shared(config: xLSTMBlockStackConfig) -> dict[str, Any]:
    """What the layers have from the stack."""
    return {"embedding_dim": config.embedding_dim, "dropout": config.dropout}
