"""ONNX files: what is in them, what comes back, and refusals."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    CharacterTokenizer,
    HuggingFaceTokenizer,
    SequenceLayer,
    from_pretrained,
    mLSTM,
    save_pretrained,
    sLSTM,
)
from numpy_xlstm.cells import sLSTMCell
from numpy_xlstm.checkpoints.onnx import export, to_onnx
from numpy_xlstm.cli import main
from numpy_xlstm.errors import CheckpointError, MissingExtraError, OptionError
from tests.checkpoints.build import large, lstm, paper, stack

onnx = pytest.importorskip("onnx", reason="onnx (the extra 'cli') is not installed")

MODELS: dict[str, Callable[[], Any]] = {
    "large": large,
    "paper": paper,
    "tied": lambda: paper(tie_weights=True),
    "stack": lambda: stack(np.float64),
    "lstm": lstm,
    "slstm": lambda: sLSTM(3, 4, num_heads=2),
    "mlstm": lambda: mLSTM(3, 4, num_heads=2, input_gate="sigmoid"),
}


@pytest.fixture(params=["one file", "two files"])
def split(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the parameters are in a file of their own."""
    two: bool = request.param == "two files"
    if two:
        monkeypatch.setattr(export, "LARGEST", 10)
    return two


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("dtype", [None, "float16"])
def test_parameters_in_a_file(name: str, dtype: str | None, split: bool, tmp_path: Path) -> None:
    model, path = MODELS[name](), tmp_path / "model.onnx"
    save_pretrained(model, path, dtype=dtype)
    onnx.checker.check_model(str(path), full_check=True)
    assert path.with_name("model.onnx.data").exists() == split
    stored = {
        each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer
    }
    for parameter, array in model.params.items():
        np.testing.assert_array_equal(stored[parameter], array.astype(dtype or array.dtype))
    with pytest.raises(CheckpointError, match="got an ONNX graph, which is only written"):
        from_pretrained(path)


@pytest.mark.parametrize("failing", ["model.onnx", "model.onnx.data"])
def test_a_graph_is_there_only_with_its_parameters(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(source: Path, target: Path) -> None:
        if Path(target).name == failing:
            raise OSError("the disk is full")
        place(source, target)

    place = os.replace
    monkeypatch.setattr(export, "LARGEST", 10)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="the disk is full"):
        save_pretrained(lstm(), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    monkeypatch.setattr(os, "replace", place)
    save_pretrained(lstm(), tmp_path / "model.onnx")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OptionError, match="expected a new path, because"):
        save_pretrained(large(), tmp_path / "model.onnx")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_content_of_a_file(tmp_path: Path) -> None:
    model, path = large(), tmp_path / "model.onnx"
    save_pretrained(model, path, tokenizer=CharacterTokenizer("abcdefg"))
    proto = onnx.load(path)
    [entry] = proto.metadata_props
    assert entry.key == "tokenizer.json"
    assert HuggingFaceTokenizer(entry.value).decode(np.array([3, 4, 5, 7])) == "def\ufffd"
    constants = [each.name for each in proto.graph.initializer]
    assert [name for name in constants if not name.startswith("constant.")] == [*model.params]
    assert {each.op_type for each in proto.graph.node if each.domain} == set()
    assert "xLSTMLarge with" in proto.doc_string
    assert "Each run takes any number of steps." in proto.doc_string
    assert "Each run takes exactly one step." in to_onnx(model, step=True).doc_string
    assert "licence" in proto.doc_string
    inputs = [each.name for each in proto.graph.input]
    assert inputs == ["tokens", *(f"state.{n}.{s}" for n in range(2) for s in "Cnm")]
    outputs = [each.name for each in proto.graph.output]
    assert outputs == ["logits", *(f"next_{name}" for name in inputs[1:])]


def test_the_graph_of_one_step_has_no_branch_and_no_loop() -> None:
    for model in (large(), paper(), mLSTM(3, 4)):
        steps = {node.op_type for node in to_onnx(model, step=True).graph.node}
        assert not steps & {"If", "Scan", "Loop"}
        assert {node.op_type for node in to_onnx(model).graph.node} & {"If", "Scan"}


def test_without_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match="a file for ONNX needs the cli extra: pip install"):
        save_pretrained(lstm(), tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]
    code = "import sys, numpy_xlstm.cli; print('onnx' in sys.modules)"
    words = [sys.executable, "-c", code]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


# What cannot be written


class OwnCell(sLSTMCell):
    def forward(self, x: Any, state: Any = None) -> Any:
        return super().forward(2 * x, state)


class OwnLayer(mLSTM):
    def compute(self, x: Any, state: Any, options: Any) -> Any:
        return super().compute(2 * x, state, options)


@pytest.mark.parametrize("model", [SequenceLayer(OwnCell(2, 3)), OwnLayer(2, 3)])
def test_equations_of_the_user(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("before")
    with pytest.raises(CheckpointError, match=r"model: expected layers and cells .* got Own"):
        save_pretrained(model, path)
    assert path.read_text() == "before"
    assert len([*tmp_path.iterdir()]) == 1


# The command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = large(), tmp_path / "a.safetensors"
    save_pretrained(model, path)
    assert main(["convert", str(path), str(tmp_path / "b.onnx")]) == 0
    assert main(["convert", str(path), str(tmp_path / "c.onnx"), "--step"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["convert", str(tmp_path / "c.onnx"), str(tmp_path / "d.safetensors")]) == 2
    assert "got an ONNX graph, which is only written" in capsys.readouterr().err
    assert main(["convert", str(path), str(tmp_path / "e.safetensors"), "--step"]) == 2
    assert "step: expected False for the format 'safetensors'; got True" in capsys.readouterr().err
    assert not (tmp_path / "e.safetensors").exists()
