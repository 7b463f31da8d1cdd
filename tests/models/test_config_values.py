"""Values of configurations: errors for invalid ones, and conversions of valid ones."""

import json
from typing import Any

import numpy as np

from numpy_xlstm import (
    FeedForwardConfig,
    mLSTMBlockConfig,
    sLSTMBlockConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from tests.models.build import mlstm_block, slstm_block

STACK: dict[str, Any] = {"num_blocks": 2, "embedding_dim": 8, "vocab_size": 5}


def stack(**options: Any) -> xLSTMLMModelConfig:
    blocks = {"mlstm_block": mlstm_block(), "slstm_block": slstm_block()}
    return xLSTMLMModelConfig(**(STACK | blocks | options))


def test_a_child_may_repeat_what_the_stack_says() -> None:
    child = mlstm_block(embedding_dim=8, bias=True, dropout=0.5, context_length=16)
    config = stack(mlstm_block=child, bias=True, dropout=0.5, context_length=16)
    assert config.mlstm_block is child
    assert child.mlstm.embedding_dim == 8


def test_one_child_for_two_stacks() -> None:
    """The official package modifies the child; this package does not."""
    child = mlstm_block()
    narrow, wide = (stack(mlstm_block=child, embedding_dim=D, dropout=D / 100) for D in (8, 16))
    assert child == mlstm_block()
    shapes = [xLSTMLMModel(c).params["token_embedding.weight"].shape[1] for c in (narrow, wide)]
    assert shapes == [8, 16]


def test_an_int_is_a_float() -> None:
    assert FeedForwardConfig(proj_factor=2).proj_up_dim(64) == 128
    assert stack(dropout=0).dropout == 0


def test_numbers_of_numpy_and_tuples_are_taken_as_those_of_python() -> None:
    config = xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(),
        slstm_block=sLSTMBlockConfig(),
        vocab_size=np.int64(10),  # type: ignore[arg-type]
        dropout=np.float32(0.5),  # type: ignore[arg-type]
        num_blocks=3,
        slstm_at=(np.int64(1),),  # type: ignore[arg-type]
    )
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()
    assert (config.vocab_size, config.dropout, config.slstm_at) == (10, 0.5, [1])
