"""ONNX files: what is in them, what comes back, and refusals."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from numpy_xlstm import (
    CharacterTokenizer,
    SequenceLayer,
    SpecialTokens,
    from_pretrained,
    load_checkpoint,
    mLSTM,
    open_pretrained,
    save_pretrained,
    sLSTM,
)
from numpy_xlstm.cells import PeepholeLSTMCell, sLSTMCell
from numpy_xlstm.checkpoints.onnx import export, to_onnx
from numpy_xlstm.cli import main
from numpy_xlstm.errors import CheckpointError, NonFiniteError, OptionError
from tests.checkpoints.build import large, lstm, paper, stack
from tests.models.build import assert_same

onnx = pytest.importorskip("onnx", reason="onnx (the extra 'cli') is not installed")

MODELS: dict[str, Callable[[], Any]] = {
    "large": large,
    "paper": paper,
    "tied": lambda: paper(tie_weights=True),
    "stack": lambda: stack(np.float64),
    "lstm": lstm,
    "slstm": lambda: sLSTM(3, 4, 2),
    "mlstm": lambda: mLSTM(3, 4, 2, input_gate="sigmoid"),
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
def test_models_come_back(name: str, dtype: str | None, split: bool, tmp_path: Path) -> None:
    model, path = MODELS[name](), tmp_path / "model.onnx"
    save_pretrained(model, path, dtype=dtype)
    save_pretrained(model, tmp_path / "model.npz", dtype=dtype)
    onnx.checker.check_model(str(path), full_check=True)
    assert path.with_name("model.onnx.data").exists() == split
    expected = from_pretrained(tmp_path / "model.npz")
    for mapped in (False, True):
        found = from_pretrained(path, mapped=mapped)
        assert type(found) is type(model)
        assert_same(dict(found.params), dict(expected.params))
    assert open_pretrained(path).format == "onnx"


def test_the_content_of_a_file(tmp_path: Path) -> None:
    model, path = large(), tmp_path / "model.onnx"
    model.special_tokens = SpecialTokens(1, (2, 5), 0, insert_bos=True)
    tokenizer = CharacterTokenizer("abcdefg")
    save_pretrained(model, path, tokenizer=tokenizer)
    proto = onnx.load(path)
    constants = [each.name for each in proto.graph.initializer]
    assert [name for name in constants if not name.startswith("constant.")] == [*model.params]
    assert {each.op_type for each in proto.graph.node if each.domain} == set()
    found = {each.key: each.value for each in proto.metadata_props}
    assert json.loads(found["numpy_xlstm"])["config"] == model.config.to_dict()
    assert "xLSTMLarge with" in proto.doc_string
    assert "Each run takes any number of steps." in proto.doc_string
    assert "Each run takes exactly one step." in to_onnx(model, step=True).doc_string
    assert "licence" in proto.doc_string
    inputs = [each.name for each in proto.graph.input]
    assert inputs == ["tokens", *(f"state.{n}.{s}" for n in range(2) for s in "Cnm")]
    outputs = [each.name for each in proto.graph.output]
    assert outputs == ["logits", *(f"next_{name}" for name in inputs[1:])]
    loaded = load_checkpoint(path)
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.to_dict() == tokenizer.to_dict()
    assert loaded.model.special_tokens == model.special_tokens


def test_the_graph_of_one_step_has_no_branch_and_no_loop() -> None:
    for model in (large(), paper(), mLSTM(3, 4)):
        steps = {node.op_type for node in to_onnx(model, step=True).graph.node}
        assert not steps & {"If", "Scan", "Loop"}
        assert {node.op_type for node in to_onnx(model).graph.node} & {"If", "Scan"}


def test_reading_needs_no_other_package(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_pretrained(lstm(), path)
    code = (
        "import sys; sys.modules['onnx'] = None; import numpy_xlstm as x\n"
        "model = x.from_pretrained(sys.argv[1])\n"
        "try: x.save_pretrained(model, sys.argv[1])\n"
        "except x.errors.MissingExtraError as error: print(error)\n"
    )
    words = [sys.executable, "-c", code, str(path)]
    before = path.read_bytes()
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    expected = "a file for ONNX needs the cli extra: pip install 'numpy-xlstm[cli]'\n"
    assert found.stdout == expected
    assert path.read_bytes() == before
    code = "import sys, numpy_xlstm.cli; print('onnx' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


# What cannot be written


class OwnCell(sLSTMCell):
    def forward(self, x: Any, state: Any = None) -> Any:
        return super().forward(2 * x, state)


class OwnLayer(mLSTM):
    def compute(self, x: Any, state: Any, options: Any = None) -> Any:
        return super().compute(2 * x, state)


@pytest.mark.parametrize("model", [SequenceLayer(OwnCell(2, 3)), OwnLayer(2, 3)])
def test_equations_of_the_user(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("before")
    with pytest.raises(CheckpointError, match=r"model: expected layers and cells .* got Own"):
        save_pretrained(model, path)
    assert path.read_text() == "before"
    assert len([*tmp_path.iterdir()]) == 1


def test_bad_arguments(tmp_path: Path) -> None:
    model, path = sLSTM(2, 3), tmp_path / "model.onnx"
    with pytest.raises(OptionError, match="step: expected False for the format 'npz'; got True"):
        save_pretrained(model, tmp_path / "model.npz", step=True)
    with pytest.raises(CheckpointError, match=r"expected a name that ends in \.onnx"):
        save_pretrained(model, tmp_path / "model.npz", format="onnx")
    with pytest.raises(OptionError, match="model: expected an object with init_state, compute"):
        to_onnx(sLSTMCell(2, 3))
    with pytest.raises(OptionError, match="dtype: expected"):
        to_onnx(model, dtype="int8")
    with pytest.raises(OptionError, match="dtype: expected"):
        to_onnx(model.astype(np.complex128))
    model.params["W"][0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="W: expected finite"):
        save_pretrained(model, path)
    assert not [*tmp_path.iterdir()]


def test_a_layer_without_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    layer = SequenceLayer(PeepholeLSTMCell(2, 3))
    with pytest.raises(CheckpointError, match="kind: expected one of"):
        save_pretrained(layer, path, tokenizer=CharacterTokenizer("ab"))
    save_pretrained(layer, path)
    with pytest.raises(CheckpointError, match="has written; got one without its configuration"):
        from_pretrained(path)


# Hostile files


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    save_pretrained(paper(), path)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes(data: st.DataObject, written: Path, tmp_path: Path) -> None:
    """The graph has no checksum, as it is not read; all that is read has one."""
    before, path = from_pretrained(written), tmp_path / "model.onnx"
    content = bytearray(written.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = from_pretrained(path)
    except CheckpointError as error:
        assert "model.onnx" in str(error)  # noqa: PT017
    else:
        assert_same(dict(found.params), dict(before.params))


# The command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = large(), tmp_path / "a.npz"
    save_pretrained(model, path)
    assert main(["convert", str(path), str(tmp_path / "b.onnx")]) == 0
    assert main(["convert", str(path), str(tmp_path / "c.onnx"), "--step"]) == 0
    assert main(["convert", str(tmp_path / "c.onnx"), str(tmp_path / "d.safetensors")]) == 0
    assert capsys.readouterr() == ("", "")
    for name in ("b.onnx", "c.onnx", "d.safetensors"):
        assert_same(dict(from_pretrained(tmp_path / name).params), dict(model.params))
    assert main(["convert", str(path), str(tmp_path / "e.npz"), "--step"]) == 2
    assert "step: expected False for the format 'npz'; got True" in capsys.readouterr().err
    assert not (tmp_path / "e.npz").exists()
