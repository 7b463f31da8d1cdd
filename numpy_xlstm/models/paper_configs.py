"""Configurations of the xLSTM paper's models, with the official field names and defaults."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

from numpy_xlstm.config import FEW, Config, Positive, Probability
from numpy_xlstm.errors import OptionError
from numpy_xlstm.models.layer_configs import mLSTMBlockConfig, sLSTMBlockConfig


@dataclass(frozen=True)
class xLSTMBlockStackConfig(Config):
    """Configuration of a stack of mLSTM and sLSTM blocks.

    Attributes
    ----------
    mlstm_block, slstm_block
        Configuration of the blocks of each kind; None if there is no block of that kind.
    context_length : int
        Longest sequence in the official package. Ignored here.
    num_blocks : int
        Number of blocks, at most 1,024.
    embedding_dim : int
        Width of the inputs and outputs of the blocks.
    add_post_blocks_norm : bool
        Whether there is a layer norm after the last block.
    bias : bool
        Whether the linear maps of the mLSTM layers have biases.
    dropout : float
        Probability that an output of a layer is dropped in training.
    slstm_at : list of int or "all"
        Indices of the sLSTM blocks, from 0.

    Examples
    --------
    xLSTM[1:1]:

    >>> config = xLSTMBlockStackConfig(
    ...     mlstm_block=mLSTMBlockConfig(), slstm_block=sLSTMBlockConfig(),
    ...     num_blocks=4, embedding_dim=64, slstm_at=[1, 3])
    >>> config.kinds
    ('mlstm', 'slstm', 'mlstm', 'slstm')
    """

    mlstm_block: mLSTMBlockConfig | None = None
    slstm_block: sLSTMBlockConfig | None = None
    context_length: int = -1
    num_blocks: Annotated[Positive, FEW] = 1
    embedding_dim: Positive = 128
    add_post_blocks_norm: bool = True
    bias: bool = False
    dropout: Probability = 0.0
    slstm_at: list[int] | Literal["all"] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        places = [] if self.slstm_at == "all" else self.slstm_at
        if any(not 0 <= place < self.num_blocks for place in places):
            raise OptionError(
                f"slstm_at: expected block numbers from 0 to {self.num_blocks - 1}; "
                f"got {self.slstm_at}"
            )
        blocks = self.mlstm_block, self.slstm_block
        if blocks == (None, None):
            raise OptionError(
                "mlstm_block, slstm_block: expected a configuration for at least one; got None"
            )
        if self.slstm_places and self.slstm_block is None:
            raise OptionError(
                "slstm_block: expected a configuration, because there are such blocks at "
                f"{list(self.slstm_places)}; got None"
            )
        for block, complete in zip(blocks, self.block_configs(), strict=True):
            _check_block(block, complete)

    def block_configs(self) -> tuple[Any, Any]:
        """Return the configurations of an mLSTM and of an sLSTM block with the stack's values."""
        D, dropout = self.embedding_dim, self.dropout
        mlstm, slstm, length = self.mlstm_block, self.slstm_block, self.context_length
        if mlstm is not None:
            shared: Any = {"dropout": dropout, "bias": self.bias, "context_length": length}
            mlstm = replace(mlstm, mlstm=replace(mlstm.mlstm, embedding_dim=D, **shared))
        if slstm is not None:
            layer = replace(slstm.slstm, embedding_dim=D, hidden_size=D, dropout=dropout)
            up = slstm.feedforward and replace(slstm.feedforward, embedding_dim=D)
            slstm = replace(slstm, slstm=layer, feedforward=up)
        return mlstm, slstm

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each block: "mlstm" or "slstm"."""
        places = self.slstm_places
        return tuple("slstm" if n in places else "mlstm" for n in range(self.num_blocks))

    @property
    def slstm_places(self) -> Sequence[int]:
        """Indices of the sLSTM blocks, which are all if there is no ``mlstm_block``."""
        if self.slstm_at == "all" or self.mlstm_block is None:
            return range(self.num_blocks)
        return sorted(set(self.slstm_at))


def _check_block(block: Any, complete: Any) -> None:
    """Refuse a value that is neither its default nor that of the stack, which would replace it."""
    for entry in fields(block) if block is not None else ():
        got, expected = (getattr(config, entry.name) for config in (block, complete))
        if isinstance(got, Config):
            _check_block(got, expected)
        elif got not in (entry.default, expected):
            raise OptionError(
                f"{type(block).__name__}.{entry.name}: expected {expected!r}, as in the stack, "
                f"or nothing; got {got!r}"
            )


@dataclass(frozen=True)
class xLSTMLMModelConfig(xLSTMBlockStackConfig):
    """Configuration of a language model with a stack of blocks.

    Attributes
    ----------
    vocab_size : int
        Number V of tokens; must be given.
    tie_weights : bool
        Whether the output uses the matrix of the embedding.
    weight_decay_on_embedding : bool
        Whether weight decay applies to the embedding.
    add_embedding_dropout : bool
        Whether dropout also applies to the embedding.
    mlstm_block, slstm_block, slstm_at, num_blocks, embedding_dim
        As in :class:`xLSTMBlockStackConfig`.
    context_length, add_post_blocks_norm, bias, dropout
        As in :class:`xLSTMBlockStackConfig`.

    Examples
    --------
    >>> from numpy_xlstm import mLSTMBlockConfig, xLSTMLMModelConfig
    >>> config = xLSTMLMModelConfig(mlstm_block=mLSTMBlockConfig(), vocab_size=50)
    >>> config.kinds, xLSTMLMModelConfig.from_dict(config.to_dict()) == config
    (('mlstm',), True)
    """

    vocab_size: Positive = -1
    tie_weights: bool = False
    weight_decay_on_embedding: bool = False
    add_embedding_dropout: bool = False
