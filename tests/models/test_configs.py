"""Configurations: the official names, defaults, widths and dumps."""

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

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
from tests.models.build import LARGE, large_config, lm_config


def official(module: str) -> Any:
    return pytest.importorskip(
        module, reason="xlstm (the extra 'peers') is not installed", exc_type=ImportError
    )


# The official way to write one


def test_the_official_way_to_configure_a_stack() -> None:
    config = xLSTMBlockStackConfig(
        mlstm_block=mLSTMBlockConfig(
            mlstm=mLSTMLayerConfig(conv1d_kernel_size=4, qkv_proj_blocksize=4, num_heads=4)
        ),
        slstm_block=sLSTMBlockConfig(
            slstm=sLSTMLayerConfig(
                backend="cuda",
                num_heads=4,
                conv1d_kernel_size=4,
                bias_init="powerlaw_blockdependent",
            ),
            feedforward=FeedForwardConfig(proj_factor=1.3, act_fn="gelu"),
        ),
        context_length=256,
        num_blocks=7,
        embedding_dim=128,
        slstm_at=[1],
    )
    assert config.kinds == ("mlstm", "slstm", *["mlstm"] * 5)


YAML = """
vocab_size: 50304
embedding_dim: 128
num_blocks: 4
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
    bias_init: powerlaw_blockdependent
  feedforward:
    proj_factor: 1.3
    act_fn: gelu
"""


def test_the_official_way_to_write_a_file(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")
    file = tmp_path / "model.yaml"
    file.write_text(YAML, encoding="utf-8")
    config = xLSTMLMModelConfig.load(file)
    assert config == xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(),
        slstm_block=sLSTMBlockConfig(),
        num_blocks=4,
        context_length=256,
        slstm_at=[1],
        vocab_size=50304,
    )


def test_without_mlstm_blocks_all_are_slstm_blocks() -> None:
    config = xLSTMBlockStackConfig(slstm_block=sLSTMBlockConfig(), num_blocks=3)
    assert config.kinds == ("slstm",) * 3
    everywhere = lm_config(slstm_at="all")
    assert everywhere.kinds == ("slstm",) * 3


@pytest.mark.parametrize(
    ("dim", "factor", "up", "multiple", "width"),
    [
        (128, 1.3, True, 64, 192),
        (128, 1.3, False, 64, 128),
        (64, 1.3, True, 64, 128),
        (16, 2.0, True, 64, 64),
        (4096, 2.0, True, 64, 8192),
        (10, 1.5, True, 1, 15),
    ],
)
def test_widths(dim: int, factor: float, up: bool, multiple: int, width: int) -> None:
    """Widths are rounded up to a multiple, or down on request."""
    for kind in (FeedForwardConfig, mLSTMLayerConfig):
        config = kind(
            proj_factor=factor, round_proj_up_dim_up=up, round_proj_up_to_multiple_of=multiple
        )
        assert config.proj_up_dim(dim) == width


def test_widths_of_large() -> None:
    config = xLSTMLargeConfig(embedding_dim=4096, num_heads=8, num_blocks=32, vocab_size=50304)
    assert (config.qk_dim, config.v_dim, config.ffn_dim) == (2048, 4096, 10944)
    small = xLSTMLargeConfig(**LARGE)
    assert (small.qk_dim, small.v_dim, small.ffn_dim) == (4, 8, 64)


# In addition to the official ones

OFFICIAL: dict[str, list[Any]] = {
    "xlstm": [
        FeedForwardConfig,
        mLSTMBlockConfig,
        mLSTMLayerConfig,
        sLSTMBlockConfig,
        sLSTMLayerConfig,
        xLSTMBlockStackConfig,
        xLSTMLMModelConfig,
    ],
    "xlstm.xlstm_large.model": [xLSTMLargeConfig],
}


@pytest.mark.parametrize(
    ("module", "ours"), [(module, c) for module, all_ in OFFICIAL.items() for c in all_]
)
def test_names_and_defaults_are_the_official_ones(module: str, ours: Any) -> None:
    theirs = getattr(official(module), ours.__name__)

    def public(config: Any) -> dict[str, Any]:
        found = {}
        for field in dataclasses.fields(config):
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
                default = type(default).__name__ if dataclasses.is_dataclass(default) else default
            if not field.name.startswith("_"):
                found[field.name] = default
        return found

    assert public(ours) == public(theirs)


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


def test_a_dump_of_an_official_configuration_of_one_kind_is_read() -> None:
    xlstm = official("xlstm")
    theirs = xlstm.xLSTMLMModelConfig(
        slstm_block=xlstm.sLSTMBlockConfig(feedforward=None), num_blocks=2, vocab_size=5
    )
    config = xLSTMLMModelConfig.from_dict(dataclasses.asdict(theirs))
    assert config.kinds == ("slstm", "slstm")
    assert config.slstm_block is not None
    assert config.slstm_block.feedforward is None


def test_a_dump_of_an_official_large_configuration_is_read() -> None:
    large = official("xlstm.xlstm_large.model")
    theirs = large.xLSTMLargeConfig(**LARGE, weight_mode="fused", mode="inference")
    config = xLSTMLargeConfig.from_dict(dataclasses.asdict(theirs))
    assert config.to_dict() == dataclasses.asdict(theirs)


def test_every_configuration_is_exported() -> None:
    package = importlib.import_module("numpy_xlstm")
    names = {kind.__name__ for kinds in OFFICIAL.values() for kind in kinds}
    assert names <= set(package.__all__)
