"""Configurations in JSON and YAML files, and errors for invalid files."""

import json
import sys
from pathlib import Path

import pytest

from numpy_xlstm import (
    mLSTMLayerConfig,
    xLSTMLargeConfig,
    xLSTMLMModelConfig,
)
from numpy_xlstm.errors import OptionError
from tests.models.build import CONFIGS, large_config, lm_config


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("ending", [".json", ".yaml", ".YML"])
def test_a_file_goes_round(tmp_path: Path, name: str, ending: str) -> None:
    if ending != ".json":
        pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")
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
    pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")
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
    with pytest.raises(OptionError, match=r"the cli extra .*pip install 'numpy-xlstm\[cli\]'"):
        large_config().save(tmp_path / "config.yaml")
    large_config().save(tmp_path / "config.json")


def test_loading_yaml_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    file = tmp_path / "config.yaml"
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(OptionError, match=r"^config: expected the cli extra"):
        xLSTMLargeConfig.load(file)


def test_a_file_name_that_says_nothing_about_the_format(tmp_path: Path) -> None:
    path = tmp_path / "config.txt"
    with pytest.raises(OptionError, match=r"a name that ends in .json or .yaml; got .*config.txt"):
        mLSTMLayerConfig().save(path)
    assert not path.exists()
