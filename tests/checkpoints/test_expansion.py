"""Limits of the sizes of arrays, and texts and names that are hard to write."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    from_pretrained,
    load_checkpoint,
    open_pretrained,
    save_pretrained,
)
from numpy_xlstm.checkpoints import read_arrays, save_checkpoint, write_arrays
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.models import xLSTMLMModelConfig
from tests.checkpoints.build import (
    large,
    lstm,
)


def test_the_total_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, lstm(), arrays={"more": np.zeros(1_000_000, np.uint8)})
    assert load_checkpoint(path, max_bytes=1_100_000).arrays["more"].size == 1_000_000
    readers: list[Any] = [from_pretrained, open_pretrained, load_checkpoint, read_arrays]
    message = r"at most 1,000,000 bytes \(max_bytes\); got 1,00"
    for read in readers:
        with pytest.raises(CheckpointError, match=message):
            read(path, max_bytes=1_000_000)
        with pytest.raises(OptionError, match="max_bytes: expected a whole number"):
            read(path, max_bytes="1 GB")
    folder = tmp_path / "model"
    save_pretrained(large(), folder, max_shard_size="4KB")
    assert from_pretrained(folder, max_bytes=50_000).num_parameters == large().num_parameters
    with pytest.raises(CheckpointError, match="model: expected arrays of at most 5,000 bytes"):
        from_pretrained(folder, max_bytes=5_000)


def test_yaml_of_a_configuration_has_the_same_limits(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for text, message in (
        ("a: &a [1,1,1]\nb: &b [*a,*a,*a]\nmlstm_block: [*b,*b]", "a reference to an anchor"),
        ("mlstm_block: {a: 1}\n" * 2, "mlstm_block: expected one entry; got two"),
        ("a: 1\n" * 30_000, "at most 100,000 bytes"),
    ):
        path.write_text(text)
        with pytest.raises(OptionError, match=message):
            xLSTMLMModelConfig.load(path)


LONG = 'x" é 𝄞 \\ ' * 10


def test_texts_and_names_that_are_hard_to_write(tmp_path: Path) -> None:
    path, metadata = tmp_path / "a.safetensors", {LONG: [LONG, {"\x1b": "\ud800"}]}
    write_arrays(path, {LONG: np.ones(2), '"numpy_xlstm_crc32":"00000000': np.ones(1)}, metadata)
    arrays, found = read_arrays(path)
    assert found == metadata
    assert arrays[LONG].tolist() == [1, 1]
    for name in ("a\nb", "\x1b[2J", "a\0b", "x" * 1001):
        with pytest.raises(CheckpointError, match="printable characters, other than __metadata__"):
            write_arrays(path, {name: np.ones(1)}, {})
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(CheckpointError, match="metadata: expected JSON values"):
        write_arrays(path, {}, {"deep": deep})
    assert read_arrays(path)[1] == metadata
