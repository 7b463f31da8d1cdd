"""Configurations: the official names and defaults, files, and an answer to every bad value."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
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
from numpy_xlstm.errors import OptionError
from tests.models.build import CONFIGS, large_config, lm_config, mlstm_block, slstm_block

LARGE: dict[str, Any] = {"embedding_dim": 8, "num_heads": 2, "num_blocks": 1, "vocab_size": 3}


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
    pytest.importorskip("yaml", reason="PyYAML (the extra 'yaml') is not installed")
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
    """Rounded up to a multiple, or down if so told."""
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


# Beside the official ones

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


@pytest.mark.parametrize("name", [n for n in CONFIGS if n.startswith("large")])
def test_widths_of_large_are_the_official_ones(name: str) -> None:
    utils = official("xlstm.xlstm_large.utils")
    for dim in (8, 12, 64, 100, 4096):
        for factor in (1.5, 2.6667, 8 / 3):
            ours = large_config(
                embedding_dim=2 * dim, ffn_proj_factor=factor, ffn_round_up_to_multiple_of=64
            )
            theirs = utils.round_up_to_next_multiple_of(2 * dim * factor, 64)
            assert ours.ffn_dim == theirs


def test_a_dump_of_an_official_configuration_is_read() -> None:
    """With its underscore fields, and what it has filled in of the stack's sizes and of dtypes."""
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


# Files


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("ending", [".json", ".yaml", ".YML"])
def test_a_file_goes_round(tmp_path: Path, name: str, ending: str) -> None:
    if ending != ".json":
        pytest.importorskip("yaml", reason="PyYAML (the extra 'yaml') is not installed")
    config = CONFIGS[name]()
    file = tmp_path / f"config{ending}"
    config.save(file)
    assert type(config).load(file) == config
    config.save(str(file))
    assert type(config).load(str(file)) == config
    assert type(config).from_dict(config.to_dict()) == config
    if ending == ".json":
        assert json.loads(file.read_text("utf-8")) == config.to_dict()


def test_to_dict_is_a_copy() -> None:
    config = lm_config()
    config.to_dict()["slstm_at"].append(2)
    assert config.slstm_at == [1]


def test_underscores_are_skipped_at_every_depth() -> None:
    values = lm_config().to_dict()
    values["_block_map"] = "0,1,0"
    values["mlstm_block"]["_num_blocks"] = 3
    values["mlstm_block"]["mlstm"]["_proj_up_dim"] = 12
    assert xLSTMLMModelConfig.from_dict(values) == lm_config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config: expected JSON; .*bad.json is not"),
        ("", "config: expected JSON; .*bad.json is not"),
        ("[1]", r"xLSTMLargeConfig: expected a mapping of names; got \[1\]"),
        ("null", "xLSTMLargeConfig: expected a mapping of names; got None"),
        ('{"embedding_dim": 8}', "expected num_heads, num_blocks, vocab_size too; got {'embed"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match=message):
        xLSTMLargeConfig.load(file)


def test_a_bad_yaml_file(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="PyYAML (the extra 'yaml') is not installed")
    file = tmp_path / "bad.yaml"
    file.write_text("a: [1", encoding="utf-8")
    with pytest.raises(OptionError, match=r"config: expected YAML; .*bad\.yaml is not"):
        xLSTMLargeConfig.load(file)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(b"\xff\xfe{}")
    with pytest.raises(OptionError, match="config: expected"):
        xLSTMLargeConfig.load(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        xLSTMLargeConfig.load(tmp_path / "nowhere.json")


def test_yaml_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(OptionError, match=r"the yaml extra .*pip install 'numpy-xlstm\[yaml\]'"):
        large_config().save(tmp_path / "config.yaml")
    large_config().save(tmp_path / "config.json")


def test_loading_yaml_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    file = tmp_path / "config.yaml"
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(OptionError, match=r"^config: expected the yaml extra"):
        xLSTMLargeConfig.load(file)


# Bad values

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
    "slstm_at a text": (lambda: stack(slstm_at="1"), "slstm_at: expected list.*; got '1'"),
    "slstm_at of texts": (lambda: stack(slstm_at=["1"]), r"slstm_at: expected list.*got \['1'\]"),
    "no sLSTM block": (
        lambda: stack(slstm_block=None, slstm_at=[1]),
        r"slstm_block: expected a configuration, since .* at \[1\]; got None",
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
    """The official package writes into the child; here it stays as it is."""
    child = mlstm_block()
    narrow, wide = (stack(mlstm_block=child, embedding_dim=D, dropout=D / 100) for D in (8, 16))
    assert child == mlstm_block()
    shapes = [xLSTMLMModel(c).params["token_embedding.weight"].shape[1] for c in (narrow, wide)]
    assert shapes == [8, 16]


def test_an_int_is_a_float() -> None:
    assert FeedForwardConfig(proj_factor=2).proj_up_dim(64) == 128
    assert stack(dropout=0).dropout == 0


def test_every_configuration_is_exported() -> None:
    package = importlib.import_module("numpy_xlstm")
    names = {kind.__name__ for kinds in OFFICIAL.values() for kind in kinds}
    assert names <= set(package.__all__)


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


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([True], r"slstm_at: expected list\[int\] or 'all'; got \[True\]"),
        (1, r"slstm_at: expected list\[int\] or 'all'; got 1"),
    ],
)
def test_places_that_are_none(places: Any, message: str) -> None:
    blocks: dict[str, Any] = {"mlstm_block": mLSTMBlockConfig(), "slstm_block": sLSTMBlockConfig()}
    with pytest.raises(OptionError, match=message):
        xLSTMLMModelConfig(vocab_size=5, num_blocks=2, slstm_at=places, **blocks)


@pytest.mark.parametrize("factor", [0, -1.5, float("inf"), float("nan")])
def test_a_projection_has_some_width(factor: float) -> None:
    with pytest.raises(OptionError, match=r"proj_factor: expected a number above 0; got"):
        mLSTMLayerConfig(proj_factor=factor)


def test_a_file_name_that_says_nothing_about_the_format(tmp_path: Path) -> None:
    path = tmp_path / "config.txt"
    with pytest.raises(OptionError, match=r"a name that ends in .json or .yaml; got .*config.txt"):
        mLSTMLayerConfig().save(path)
    assert not path.exists()
