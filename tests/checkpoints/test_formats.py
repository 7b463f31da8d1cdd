"""A format is one description in the registry: nothing else in the package knows its name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import GRU, from_pretrained, open_pretrained, save_pretrained
from numpy_xlstm.checkpoints import FORMATS, Format, Pretrained
from numpy_xlstm.checkpoints.description import Content, Saving
from numpy_xlstm.checkpoints.loading import matched
from numpy_xlstm.checkpoints.writing import write_parts
from numpy_xlstm.cli import main

PREFIX = "gru/"


def read(content: Content) -> Pretrained:
    arrays = {n.removeprefix(PREFIX): stored for n, stored in content.tensors.arrays.items()}
    (rows, D), H = arrays["weight_ih_l0"].shape, arrays["weight_hh_l0"].shape[1]
    assert rows == 3 * H
    model = GRU(D, H)
    return Pretrained(content.path, "slashes", model, matched(model.params, arrays))


def write(model: Any, path: Path, options: Saving) -> None:
    arrays = {PREFIX + name: array for name, array in model.params.items()}
    write_parts({path: arrays}, dict.fromkeys(arrays, model.dtype.name), None)


SLASHES = Format(
    "slashes",
    (GRU,),
    lambda content: all(name.startswith(PREFIX) for name in content.tensors.arrays),
    read,
    write,
    ".slashes",
)


def test_a_format_is_added_by_one_description(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(FORMATS, SLASHES.name, SLASHES)
    gru, path = GRU(3, 4, rng=np.random.default_rng(0)), tmp_path / "a.slashes"
    save_pretrained(gru, path)
    assert open_pretrained(path).format == "slashes"
    loaded = from_pretrained(path)
    assert all(np.array_equal(loaded.params[name], array) for name, array in gru.params.items())
    assert main(["convert", str(path), str(tmp_path / "b.safetensors"), "--to", "safetensors"]) == 0
    assert open_pretrained(tmp_path / "b.safetensors").format == "safetensors"
    back = tmp_path / "c.slashes"
    assert main(["convert", str(tmp_path / "b.safetensors"), str(back), "--to", "slashes"]) == 0
    assert open_pretrained(back).format == "slashes"
