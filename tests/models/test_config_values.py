"""Values of configurations: errors for invalid ones, and conversions of valid ones."""

import json
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    FeedForwardConfig,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.errors import OptionError
from tests.models.build import LARGE, mlstm_block, slstm_block

STACK: dict[str, Any] = {"num_blocks": 2, "embedding_dim": 8, "vocab_size": 5}


def stack(**options: Any) -> xLSTMLMModelConfig:
    blocks = {"mlstm_block": mlstm_block(), "slstm_block": slstm_block()}
    return xLSTMLMModelConfig(**(STACK | blocks | options))


BAD: dict[str, tuple[Any, str]] = {
    "unknown name": (
        lambda: xLSTMLMModelConfig.from_dict(STACK | {"num_block": 2}),
        "expected the names of its fields; got 'num_block'; did you mean num_blocks",
    ),
    "unknown name unlike any": (
        lambda: mLSTMBlockConfig.from_dict({"qqq": 2}),
        "mLSTMBlockConfig: expected the names of its fields; got 'qqq'; it has mlstm",
    ),
    "unknown name inside": (
        lambda: mLSTMBlockConfig.from_dict({"mlstm": {"num_head": 2}}),
        "mLSTMLayerConfig: .*got 'num_head'; did you mean num_heads",
    ),
    "missing names": (
        lambda: xLSTMLargeConfig.from_dict({"vocab_size": 3}),
        "xLSTMLargeConfig: expected embedding_dim, num_heads, num_blocks too; got",
    ),
    "missing vocabulary": (
        lambda: xLSTMLMModelConfig(mlstm_block=mlstm_block()),
        "vocab_size: expected a whole number, at least 1; got -1",
    ),
    "no mapping": (lambda: xLSTMLMModelConfig.from_dict(3), "expected a mapping.*got 3"),  # type: ignore[arg-type]
    "no mapping inside": (
        lambda: mLSTMBlockConfig.from_dict({"mlstm": 3}),
        "mlstm: expected mLSTMLayerConfig; got 3",
    ),
    "text for a number": (
        lambda: stack(num_blocks="2"),
        "num_blocks: expected int; got '2'",
    ),
    "float for an int": (
        lambda: stack(embedding_dim=8.0),
        "embedding_dim: expected int; got 8.0",
    ),
    "bool for an int": (lambda: stack(num_blocks=True), "num_blocks: expected int; got True"),
    "int for a bool": (lambda: stack(bias=1), "bias: expected bool; got 1"),
    "bool for a float": (lambda: stack(dropout=True), "dropout: expected float; got True"),
    "None for a number": (lambda: stack(dropout=None), "dropout: expected float; got None"),
    "a dict for a block": (
        lambda: stack(mlstm_block={}),
        "mlstm_block: expected mLSTMBlockConfig or None; got {}",
    ),
    "the other kind's block": (
        lambda: stack(mlstm_block=slstm_block()),
        "mlstm_block: expected mLSTMBlockConfig or None; got sLSTM",
    ),
    "slstm_at too large": (
        lambda: stack(slstm_at=[2]),
        r"slstm_at: expected block numbers from 0 to 1; got \[2\]",
    ),
    "slstm_at negative": (lambda: stack(slstm_at=[-1]), r"slstm_at: .*from 0 to 1; got \[-1\]"),
    "slstm_at a number": (lambda: stack(slstm_at=1), "slstm_at: expected list.* or 'all'; got 1"),
    "slstm_at of a bool": (
        lambda: stack(slstm_at=[True]),
        r"slstm_at: expected list\[int\] or 'all'; got \[True\]",
    ),
    "slstm_at a text": (lambda: stack(slstm_at="1"), "slstm_at: expected list.*; got '1'"),
    "slstm_at of texts": (lambda: stack(slstm_at=["1"]), r"slstm_at: expected list.*got \['1'\]"),
    "no sLSTM block": (
        lambda: stack(slstm_block=None, slstm_at=[1]),
        r"slstm_block: expected a configuration, because .* at \[1\]; got None",
    ),
    "no block at all": (
        lambda: xLSTMLMModelConfig(**STACK),
        "mlstm_block, slstm_block: expected a configuration for at least one; got None",
    ),
    "child of another width": (
        lambda: stack(mlstm_block=mlstm_block(embedding_dim=9)),
        "mLSTMLayerConfig.embedding_dim: expected 8, as in the stack, or nothing; got 9",
    ),
    "child with a bias": (
        lambda: stack(mlstm_block=mlstm_block(bias=True)),
        "mLSTMLayerConfig.bias: expected False, as in the stack, or nothing; got True",
    ),
    "child with dropout": (
        lambda: stack(slstm_block=slstm_block(dropout=0.5)),
        "sLSTMLayerConfig.dropout: expected 0.0, as in the stack, or nothing; got 0.5",
    ),
    "child of another context": (
        lambda: stack(context_length=8, mlstm_block=mlstm_block(context_length=9)),
        "mLSTMLayerConfig.context_length: expected 8, as in the stack, or nothing; got 9",
    ),
    "child of another hidden size": (
        lambda: stack(slstm_block=slstm_block(hidden_size=4)),
        "sLSTMLayerConfig.hidden_size: expected 8, as in the stack, or nothing; got 4",
    ),
    "feed-forward of another width": (
        lambda: stack(slstm_block=slstm_block(ffn={"embedding_dim": 4})),
        "FeedForwardConfig.embedding_dim: expected 8, as in the stack, or nothing; got 4",
    ),
    "no blocks": (lambda: stack(num_blocks=0), "num_blocks: .*at least 1; got 0"),
    "no width": (lambda: stack(embedding_dim=0), "embedding_dim: .*at least 1; got 0"),
    "dropout of 1": (lambda: stack(dropout=1.0), r"dropout: .*in \[0, 1\); got 1.0"),
    "dropout below 0": (
        lambda: FeedForwardConfig(dropout=-0.1),
        r"dropout: .*in \[0, 1\); got -0.1",
    ),
    "dropout of 1 in a child": (
        lambda: sLSTMLayerConfig(dropout=1.0),
        r"dropout: .*in \[0, 1\); got 1.0",
    ),
    "projection to no width": (
        lambda: FeedForwardConfig(proj_factor=0.1, round_proj_up_dim_up=False).proj_up_dim(8),
        "proj_factor: expected a width above 0; 0.1 times 8 rounds to 0",
    ),
    "projection that is not a number": (
        lambda: FeedForwardConfig(proj_factor=float("nan")),
        "proj_factor: expected a number above 0; got nan",
    ),
    "multiple of 0": (
        lambda: mLSTMLayerConfig(round_proj_up_to_multiple_of=0),
        "round_proj_up_to_multiple_of: .*; got 0",
    ),
    "mLSTM without a convolution": (
        lambda: mLSTMLayerConfig(conv1d_kernel_size=0),
        "conv1d_kernel_size: expected a whole number, at least 1; got 0",
    ),
    "kernel below 0": (
        lambda: sLSTMLayerConfig(conv1d_kernel_size=-1),
        "conv1d_kernel_size: expected .*; got -1",
    ),
    "no heads": (lambda: sLSTMLayerConfig(num_heads=0), "num_heads: .*at least 1; got 0"),
    "unknown activation": (
        lambda: FeedForwardConfig(act_fn="sine"),
        "act_fn: expected one of 'gelu'.*; got 'sine'",
    ),
    "unknown feed-forward": (
        lambda: FeedForwardConfig(ff_type="ffn"),  # type: ignore[arg-type]
        "ff_type: expected 'ffn_gated'; got 'ffn'",
    ),
    "unknown backend": (
        lambda: sLSTMLayerConfig(backend="metal"),  # type: ignore[arg-type]
        "backend: expected 'vanilla' or 'cuda'; got 'metal'",
    ),
    "LSTM as the cell": (
        lambda: sLSTMLayerConfig(function="lstm"),  # type: ignore[arg-type]
        "function: expected 'slstm'; got 'lstm'",
    ),
    "unknown bias": (
        lambda: sLSTMLayerConfig(bias_init="ones"),  # type: ignore[arg-type]
        "bias_init: expected 'powerlaw_blockdependent' or .*; got 'ones'",
    ),
    "cut gradients": (
        lambda: sLSTMLayerConfig(gradient_recurrent_cut=True),  # type: ignore[arg-type]
        "gradient_recurrent_cut: expected False; got True",
    ),
    "clipped gradients": (
        lambda: sLSTMLayerConfig(gradient_recurrent_clipval=10.0),  # type: ignore[arg-type]
        "gradient_recurrent_clipval: expected None; got 10.0",
    ),
    "initial value": (
        lambda: sLSTMLayerConfig(initial_val=1.0),  # type: ignore[arg-type]
        "initial_val: expected 0; got 1.0",
    ),
    "large, heads": (
        lambda: xLSTMLargeConfig(**(LARGE | {"num_heads": 3})),
        "qk_dim_factor: expected a width that num_heads = 3 divides; got 4",
    ),
    "large, values": (
        lambda: xLSTMLargeConfig(**LARGE, v_dim_factor=0.9),
        "v_dim_factor: expected a width that num_heads = 2 divides; got 7",
    ),
    "large, no queries": (
        lambda: xLSTMLargeConfig(**LARGE, qk_dim_factor=0.1),
        "qk_dim_factor: expected a width that num_heads = 2 divides; got 0",
    ),
    "large, no feed-forward": (
        lambda: xLSTMLargeConfig(**LARGE, ffn_proj_factor=0.0),
        "ffn_proj_factor: expected .*; got 0",
    ),
    "large, eps": (
        lambda: xLSTMLargeConfig(**LARGE, norm_eps=-1e-6),
        "norm_eps: expected a number in .*; got -1e-06",
    ),
    "large, infinite eps": (
        lambda: xLSTMLargeConfig(**LARGE, eps=float("inf")),
        "eps: expected a number in .*; got inf",
    ),
    "large, cap": (
        lambda: xLSTMLargeConfig(**LARGE, gate_soft_cap=0.0),
        "gate_soft_cap: expected a number above 0, or None; got 0.0",
    ),
    "large, weights": (
        lambda: xLSTMLargeConfig(**LARGE, weight_mode="both"),  # type: ignore[arg-type]
        "weight_mode: expected 'single' or 'fused'; got 'both'",
    ),
    "large, chunks": (
        lambda: xLSTMLargeConfig(**LARGE, chunk_size=0),
        "chunk_size: expected a whole number, at least 1; got 0",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_values(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(OptionError, match=message):
        make()


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


@pytest.mark.parametrize("factor", [0, -1.5, float("inf"), float("nan")])
def test_a_projection_has_some_width(factor: float) -> None:
    with pytest.raises(OptionError, match=r"proj_factor: expected a number above 0; got"):
        mLSTMLayerConfig(proj_factor=factor)
