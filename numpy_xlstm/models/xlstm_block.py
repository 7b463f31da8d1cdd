"""The blocks of both papers: norm, layer, residual; then norm, feed-forward, residual."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers import (
    Dropout,
    FeedForwardCache,
    GatedFeedForward,
    LayerNorm,
    NormCache,
)
from numpy_xlstm.layers.layer import Layer
from numpy_xlstm.models.block import Grads, Recurrent
from numpy_xlstm.models.config import own_config
from numpy_xlstm.models.configs import mLSTMBlockConfig, sLSTMBlockConfig
from numpy_xlstm.models.initialisation import small_init, wang_init
from numpy_xlstm.models.mlstm_layer import mLSTMLayer
from numpy_xlstm.models.slstm_layer import sLSTMLayer
from numpy_xlstm.models.states import mLSTMBlockState, sLSTMBlockState
from numpy_xlstm.numerics import Array, generator_or_new
from numpy_xlstm.parameters import named_grads


class Names(NamedTuple):
    """What the parts of a block are called."""

    norm: str
    layer: str
    ffn_norm: str
    ffn: str


class MixCache(NamedTuple):
    """What the backward of x + layer(norm(x)) needs."""

    norm: NormCache
    layer: Any


class FeedCache(NamedTuple):
    """What the backward of x + ffn(norm(x)) needs."""

    norm: NormCache
    ffn: FeedForwardCache
    dropped: Array | None


class BlockCache(NamedTuple):
    """What the backward of a block needs: the caches of its halves."""

    mix: MixCache
    feed: FeedCache | None


class ResidualBlock(Recurrent[Any, BlockCache]):
    """x + layer(norm(x)), and then, if there is a feed-forward layer, x + ffn(norm(x)).

    Parameters
    ----------
    layer : Recurrent
        The recurrent layer; its state is the state of the block.
    norm : Layer
        The norm before it.
    ffn, ffn_norm : Layer, optional
        The feed-forward layer and the norm before it.
    ffn_dropout : float
        Probability that an output of the feed-forward layer is dropped in training.
    """

    names: ClassVar[Names] = Names("xlstm_norm", "xlstm", "ffn_norm", "ffn")

    def __init__(
        self,
        layer: Recurrent[Any, Any],
        norm: Layer[NormCache],
        ffn: GatedFeedForward | None = None,
        ffn_norm: Layer[NormCache] | None = None,
        ffn_dropout: float = 0.0,
    ) -> None:
        self.width = layer.width
        self.ffn_dropout = Dropout(ffn_dropout)
        children = zip(self.names, (norm, layer, ffn_norm, ffn), strict=True)
        self.children = {name: part for name, part in children if part is not None}

    @property
    def layer(self) -> Any:
        """The recurrent layer."""
        return self.children[self.names.layer]

    @property
    def norm(self) -> Any:
        """The norm before it."""
        return self.children[self.names.norm]

    @property
    def ffn(self) -> Any:
        """The feed-forward layer, or None."""
        return self.children.get(self.names.ffn)

    @property
    def ffn_norm(self) -> Any:
        """The norm before the feed-forward layer, or None."""
        return self.children.get(self.names.ffn_norm)

    def empty_state(self, batch_size: int) -> Any:
        """Return the state before a sequence, without checks."""
        return self.layer.empty_state(batch_size)

    def apply(
        self, x: Array, state: Any, rng: np.random.Generator | None
    ) -> tuple[Array, Any, BlockCache]:
        """Forward, without checks."""
        x, state, mix = self._mix(x, state, rng)
        if self.ffn is None:
            return x, state, BlockCache(mix, None)
        x, feed = self._feed(x, rng)
        return x, state, BlockCache(mix, feed)

    def apply_backward(self, dy: Array, cache: BlockCache, dstate: Any) -> tuple[Array, Any, Grads]:
        """Backward, without checks."""
        grads: Grads = {}
        if cache.feed is not None:
            dy, grads = self._feed_backward(dy, cache.feed)
        dx, dstate, mix_grads = self._mix_backward(dy, cache.mix, dstate)
        return dx, dstate, grads | mix_grads

    def _mix(
        self, x: Array, state: Any, rng: np.random.Generator | None
    ) -> tuple[Array, Any, MixCache]:
        normed, norm = self.norm.apply(x)
        y, state, layer = self.layer.apply(normed, state, rng)
        return x + y, state, MixCache(norm, layer)  # [block.1]

    def _mix_backward(self, dy: Array, cache: MixCache, dstate: Any) -> tuple[Array, Any, Grads]:
        dnormed, dstate, layer = self.layer.apply_backward(dy, cache.layer, dstate)
        dx, norm = self.norm.apply_backward(dnormed, cache.norm)
        grads = named_grads({self.names.norm: norm, self.names.layer: layer})
        return dy + dx, dstate, grads  # [block.4]

    def _feed(self, x: Array, rng: np.random.Generator | None) -> tuple[Array, FeedCache]:
        normed, norm = self.ffn_norm.apply(x)
        y, ffn = self.ffn.apply(normed)
        y, dropped = self.ffn_dropout.apply(y, rng)
        return x + y, FeedCache(norm, ffn, dropped)  # [block.2]

    def _feed_backward(self, dy: Array, cache: FeedCache) -> tuple[Array, Grads]:
        dffn = self.ffn_dropout.apply_backward(dy, cache.dropped)
        dnormed, ffn = self.ffn.apply_backward(dffn, cache.ffn)
        dx, norm = self.ffn_norm.apply_backward(dnormed, cache.norm)
        grads = named_grads({self.names.ffn_norm: norm, self.names.ffn: ffn})
        return dy + dx, grads  # [block.3]


class mLSTMBlock(ResidualBlock):
    """An mLSTM layer behind a layer norm, added to its input: the pre up-projection block.

    Parameters
    ----------
    config : mLSTMBlockConfig
        Of the layer; ``mlstm.embedding_dim`` must be set.
    num_blocks : int
        How many blocks the stack has, for the initial weights.
    dtype : dtype
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``xlstm_norm.weight`` and those of :class:`~numpy_xlstm.mLSTMLayer` after ``xlstm.``.

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

    def __init__(
        self,
        config: mLSTMBlockConfig,
        *,
        num_blocks: int = 1,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        config = own_config(config, mLSTMBlockConfig)
        layer = mLSTMLayer(config.mlstm, num_blocks=num_blocks, dtype=dtype, rng=rng)
        super().__init__(layer, LayerNorm(layer.width, dtype=dtype))

    def init_state(self, batch_size: int) -> mLSTMBlockState:
        """Return the empty state: zeros, and m = −inf."""
        state: mLSTMBlockState = super().init_state(batch_size)
        return state


class sLSTMBlock(ResidualBlock):
    """An sLSTM layer and a gated feed-forward layer: the post up-projection block.

    Parameters
    ----------
    config : sLSTMBlockConfig
        Of both layers; ``slstm.embedding_dim`` must be set.
    block, num_blocks : int
        Number of the block in the stack and how many there are, for the initial weights.
    dtype : dtype
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``xlstm_norm.weight``, those of :class:`~numpy_xlstm.sLSTMLayer` after ``xlstm.``,
        ``ffn_norm.weight``, and those of :class:`~numpy_xlstm.GatedFeedForward` after ``ffn.``.

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

    def __init__(
        self,
        config: sLSTMBlockConfig,
        *,
        block: int = 0,
        num_blocks: int = 1,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        config, rng = own_config(config, sLSTMBlockConfig), generator_or_new(rng)
        layer = sLSTMLayer(config.slstm, block=block, num_blocks=num_blocks, dtype=dtype, rng=rng)
        D, norm = layer.width, LayerNorm(layer.width, dtype=dtype)
        if config.feedforward is None:
            super().__init__(layer, norm)
            return
        up = config.feedforward
        ffn = GatedFeedForward(D, up.proj_up_dim(D), up.act_fn, up.bias, dtype=dtype, rng=rng)
        small_init(ffn.params["proj_up.weight"], D, rng)
        wang_init(ffn.params["proj_down.weight"], D, num_blocks, rng)
        for name in ("proj_up.bias", "proj_down.bias"):
            if up.bias:
                ffn.params[name][...] = 0
        super().__init__(layer, norm, ffn, LayerNorm(D, dtype=dtype), up.dropout)

    def init_state(self, batch_size: int) -> sLSTMBlockState:
        """Return the empty state: zeros, and m = −inf."""
        state: sLSTMBlockState = super().init_state(batch_size)
        return state
