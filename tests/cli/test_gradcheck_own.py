"""The command ``gradcheck`` on a user's layer, given by its module."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from numpy_xlstm.cli import main

pytest.importorskip("rich", reason="rich (the extra 'cli') is not installed")

SOURCE = """
import numpy as np
from numpy_xlstm import mLSTM, sLSTMCell


class Scale:
    input_size = 3

    def __init__(self, size, wrong=1.0):
        self.params, self.wrong = {"w": np.zeros(size)}, wrong

    def forward(self, x):
        return x * self.params["w"], x

    def backward(self, dy, x):
        return dy * self.params["w"], {"w": (dy * x).reshape(-1, x.shape[-1]).sum(0) * self.wrong}


class Deep:
    scale = Scale(3)


def product(a, b):
    return a * b, (a, b)


def product_backward(dy, cache):
    a, b = cache
    return dy * b, dy * a


PAIR = product, product_backward

"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a package of one module."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cells.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "arguments",
    [
        ["mine.cells:Scale(3)"],
        ["mine.cells:Deep.scale"],
        ["mine.cells:Scale(3)", "--input", "2,5,3"],
        ["mine.cells:PAIR", "--input", "2,3", "--input", "2,3"],
        ["mine.cells:sLSTMCell(3, 4, num_heads=2, forget_gate='exp')"],
        ["mine.cells:mLSTM(3, 4)", "--dtype", "float32"],
        ["mine.cells:Scale(3)", "lstm.step"],
        ["mine.cells:mLSTM(3, 4, dtype=dtype, rng=rng)", "--dtype", "float32"],
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_right_passes(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", *arguments]) == 0
    out = capsys.readouterr().out
    assert arguments[0] in out
    assert ("lstm.step" in out) == ("lstm.step" in arguments)


@pytest.mark.usefixtures("folder")
def test_what_is_wrong_fails_and_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", "mine.cells:Scale(3, wrong=1.001)"]) == 1
    out = capsys.readouterr().out
    assert "3 of 3 entries; worst at" in out
    assert "1 of 1 did not pass" in out


def test_a_module_of_pytorch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
    (folder / "mine" / "nets.py").write_text("from torch.nn import LSTM\n", encoding="utf-8")
    assert main(["gradcheck", "mine.nets:LSTM(3, 2)", "--input", "4,2,3"]) == 0
    shown = r"\nmine\.nets:LSTM\(3, 2\) +\d\.\de-\d+  ok\n"
    assert re.search(shown, capsys.readouterr().out)


def test_an_error_within_the_module_is_the_callers(folder: Path) -> None:
    (folder / "mine" / "broken.py").write_text("import no_such_module_at_all\n", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        main(["gradcheck", "mine.broken:Cell"])
    with pytest.raises(NameError, match="Sale"):
        main(["gradcheck", "mine.cells:Sale"])
    with pytest.raises(TypeError, match="unsupported operand"):
        main(["gradcheck", "mine.cells:type('Late', (), {'__init__': lambda self: 1 + '1'})()"])
