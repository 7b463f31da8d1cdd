"""Configurations: official names, defaults, widths and dumps; files; values that are converted."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numpy_xlstm
from numpy_xlstm import (
    FeedForwardConfig,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMBlockStackConfig,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.documents import as_text, parse_yaml, read_values
from tests.models.build import CONFIGS, LARGE, large_config, lm_config


def official(module: str) -> Any:
    return pytest.importorskip(
        module, reason="xlstm (the extra 'peers') is not installed", exc_type=ImportError
    )


def needs_yaml() -> None:
    pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")


# The official way to write one

YAML = """
vocab_size: 50304
embedding_dim: 128
num_blocks: 7
context_length: 256
slstm_at: [1]
mlstm_block:
  mlstm:
    conv1d_kernel_size: 4
    qkv_proj_blocksize: 4
    num_heads: 4
slstm_block:
  slstm:
    backend: cuda
    num_heads: 4
    conv1d_kernel_size: 4
    bias_init: powerlaw_blockdependent
  feedforward:
    proj_factor: 1.3
    act_fn: gelu
"""


def test_the_official_way_to_write_a_file() -> None:
    """Every option of their README, which are also the defaults."""
    needs_yaml()
    config = xLSTMLMModelConfig.from_dict(parse_yaml(YAML.encode()))
    blocks = mLSTMBlockConfig(), sLSTMBlockConfig()
    sizes: dict[str, Any] = {"num_blocks": 7, "context_length": 256, "slstm_at": [1]}
    assert config == xLSTMLMModelConfig(*blocks, vocab_size=50304, **sizes)
    assert config.kinds == ("mlstm", "slstm", *["mlstm"] * 5)


def test_without_mlstm_blocks_all_are_slstm_blocks() -> None:
    config = xLSTMBlockStackConfig(slstm_block=sLSTMBlockConfig(), num_blocks=3)
    assert config.kinds == lm_config(slstm_at="all").kinds == ("slstm",) * 3


@pytest.mark.parametrize(
    ("dim", "factor", "up", "multiple", "width"),
    [
        (128, 1.3, True, 64, 192),
        (128, 1.3, False, 64, 128),
        (64, 1.3, True, 64, 128),
        (16, 2.0, True, 64, 64),
        (4096, 2.0, True, 64, 8192),
        (10, 1.5, True, 1, 15),
        (64, 2, True, 64, 128),  # an int is a float
    ],
)
def test_widths(dim: int, factor: float, up: bool, multiple: int, width: int) -> None:
    """Widths are rounded up to a multiple, or down on request."""
    for kind in (FeedForwardConfig, mLSTMLayerConfig):
        config = kind(
            proj_factor=factor, round_proj_up_dim_up=up, round_proj_up_to_multiple_of=multiple
        )
        assert config.proj_up_dim(dim) == width


# Compared with the official ones

OFFICIAL: dict[Any, str] = {
    **dict.fromkeys(
        (
            FeedForwardConfig,
            mLSTMBlockConfig,
            mLSTMLayerConfig,
            sLSTMBlockConfig,
            sLSTMLayerConfig,
            xLSTMBlockStackConfig,
            xLSTMLMModelConfig,
        ),
        "xlstm",
    ),
    xLSTMLargeConfig: "xlstm.xlstm_large.model",
}


@pytest.mark.parametrize("ours", OFFICIAL)
def test_names_and_defaults_are_the_official_ones(ours: Any) -> None:
    theirs = getattr(official(OFFICIAL[ours]), ours.__name__)

    def public(config: Any) -> dict[str, Any]:
        defaults = {}
        for field in dataclasses.fields(config):
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
                default = type(default).__name__ if dataclasses.is_dataclass(default) else default
            if not field.name.startswith("_"):
                defaults[field.name] = default
        return defaults

    assert public(ours) == public(theirs)
    assert ours.__name__ in numpy_xlstm.__all__


def test_widths_of_large_are_the_official_ones() -> None:
    utils = official("xlstm.xlstm_large.utils")
    for dim in (8, 12, 64, 100, 4096):
        for factor in (1.5, 2.6667, 8 / 3):
            ours = large_config(
                embedding_dim=2 * dim, ffn_proj_factor=factor, ffn_round_up_to_multiple_of=64
            )
            theirs = utils.round_up_to_next_multiple_of(2 * dim * factor, 64)
            assert ours.ffn_dim == theirs


def test_a_dump_of_an_official_configuration_is_read() -> None:
    """A dump has underscore fields, and sizes and dtypes filled in from the stack."""
    xlstm = official("xlstm")
    theirs = xlstm.xLSTMLMModelConfig(
        mlstm_block=xlstm.mLSTMBlockConfig(mlstm=xlstm.mLSTMLayerConfig(num_heads=2)),
        slstm_block=xlstm.sLSTMBlockConfig(
            slstm=xlstm.sLSTMLayerConfig(num_heads=2, backend="vanilla"),
            feedforward=xlstm.FeedForwardConfig(proj_factor=1.5),
        ),
        num_blocks=3,
        embedding_dim=32,
        slstm_at=[2],
        vocab_size=11,
        bias=True,
        dropout=0.1,
        context_length=64,
    )
    dumped = dataclasses.asdict(theirs)
    assert dumped["_block_map"] == "0,0,1"
    assert dumped["mlstm_block"]["mlstm"]["embedding_dim"] == 32
    config = xLSTMLMModelConfig.from_dict(json.loads(json.dumps(dumped)))
    assert config.kinds == ("mlstm", "mlstm", "slstm")
    assert config.bias is True
    assert config.mlstm_block is not None
    assert (config.mlstm_block.mlstm.num_heads, config.mlstm_block.mlstm.bias) == (2, True)
    model = xLSTMLMModel(config)
    assert model.params["xlstm_block_stack.blocks.2.ffn.proj_up.weight"].shape == (128, 32)
    block = xlstm.sLSTMBlockConfig(feedforward=None)
    dumped = dataclasses.asdict(xlstm.xLSTMLMModelConfig(slstm_block=block, vocab_size=5))
    plain = xLSTMLMModelConfig.from_dict(dumped).slstm_block
    assert plain is not None
    assert plain.feedforward is None


def test_a_dump_of_an_official_large_configuration_is_read() -> None:
    large = official("xlstm.xlstm_large.model")
    theirs = large.xLSTMLargeConfig(**LARGE, weight_mode="fused", mode="inference")
    config = xLSTMLargeConfig.from_dict(dataclasses.asdict(theirs))
    assert config.to_dict() == dataclasses.asdict(theirs)


# Values


def test_numbers_of_numpy_and_tuples_are_taken_as_those_of_python() -> None:
    numbers: dict[str, Any] = {"vocab_size": np.int64(10), "dropout": np.float32(0.5)}
    config = lm_config(slstm_at=(np.int64(1),), **numbers)
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()
    assert (config.vocab_size, config.dropout, config.slstm_at) == (10, 0.5, [1])
    assert lm_config(dropout=0).dropout == 0


def test_underscores_are_skipped_at_every_depth() -> None:
    values = lm_config().to_dict()
    values["_block_map"] = "0,1,0"
    values["mlstm_block"]["_num_blocks"] = 3
    values["mlstm_block"]["mlstm"]["_proj_up_dim"] = 12
    assert xLSTMLMModelConfig.from_dict(values) == lm_config()


# Files


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("ending", [".json", ".yaml", ".YML"])
def test_a_file_goes_round(tmp_path: Path, name: str, ending: str) -> None:
    if ending != ".json":
        needs_yaml()
    config, path = CONFIGS[name](), tmp_path / f"config{ending}"
    path.write_text(as_text(path, config.to_dict()), "utf-8")
    assert type(config).from_dict(read_values(path)) == config
    if ending == ".json":
        assert json.loads(path.read_text("utf-8")) == config.to_dict()
