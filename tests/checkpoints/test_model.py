"""Files of models; a kind of models is added by one description."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    GRU,
    LSTM,
    RNN,
    from_pretrained,
    mLSTM,
    open_pretrained,
    save_pretrained,
    sLSTM,
)
from numpy_xlstm.checkpoints import KINDS, Kind, read_arrays
from numpy_xlstm.config import Config
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation import ByteTokenizer
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.module import Module
from tests.models.build import assert_same

CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (LSTM, {}),
    "lstm-2": (LSTM, {"num_layers": 2, "bias": False, "proj_size": 3, "dropout": 0.25}),
    "gru": (GRU, {"num_layers": 3}),
    "rnn": (RNN, {"num_layers": 2, "nonlinearity": "relu"}),
    "slstm": (sLSTM, {"num_heads": 2, "forget_gate": "exp"}),
    "mlstm": (
        mLSTM,
        {
            "num_heads": 2,
            "qk_dim": 4,
            "forget_gate": "exp",
            "input_gate": "sigmoid",
            "form": "parallel",
            "chunk_size": 5,
            "eps": 1e-3,
        },
    ),
}


def build(cell: str = "lstm", dtype: Any = np.float64) -> LanguageModel:
    rng = np.random.default_rng(3)
    layer, options = CELLS[cell]
    return LanguageModel(7, 4, layer(4, 8, dtype=dtype, rng=rng, **options), rng=rng)


@pytest.mark.parametrize(
    ("cell", "dtype"), [("lstm", np.float32), *((cell, np.float64) for cell in CELLS)]
)
def test_a_model_comes_back_bit_for_bit(cell: str, dtype: Any, tmp_path: Path) -> None:
    model, tokens = build(cell, dtype), np.array([[1, 2, 6, 0, 3]])
    model.params["head.bias"][...] = np.array([-0.0, 5e-324, 1 / 3, 1, 2, 3, 4])
    path = tmp_path / "model.safetensors"
    extra = {"optimizer.t": np.array(4), "state.h": np.ones((2, 3), dtype)}
    save_pretrained(model, path, training={"step": 4, "loss": 0.1}, arrays=extra)
    opened = open_pretrained(path)
    assert opened.training == {"step": 4, "loss": 0.1}
    assert opened.load_tokenizer() is None
    arrays, loaded = opened.load_arrays(), opened.load()
    assert arrays.keys() == extra.keys()
    np.testing.assert_array_equal(arrays["state.h"], extra["state.h"])
    assert list(loaded.params) == list(model.params)
    for name, array in model.params.items():
        assert loaded.params[name].dtype == dtype
        assert loaded.params[name].tobytes() == array.tobytes()
    assert type(loaded.body) is CELLS[cell][0]
    for option in CELLS[cell][1].keys() - {"eps"}:
        assert getattr(loaded.body, option) == CELLS[cell][1][option]
    np.testing.assert_array_equal(loaded(tokens)[0], model(tokens)[0])


@pytest.mark.parametrize(
    "options", [{"cap": 0.5}, {"tied": True}, {"head_bias": False}, {"embedding_dropout": 0.25}]
)
def test_every_option_of_a_language_model_comes_back(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model: Any = LanguageModel(7, 4, LSTM(4, 4), **options)
    save_pretrained(model, tmp_path / "a.safetensors")
    loaded = from_pretrained(tmp_path / "a.safetensors")
    tokens = np.array([[1, 5, 0]])
    found, expected = (
        each.forward(tokens, rng=np.random.default_rng(3))[0] for each in (loaded, model)
    )
    np.testing.assert_array_equal(found, expected)


def test_the_names_in_the_file(tmp_path: Path) -> None:
    save_pretrained(build("slstm"), tmp_path / "a.safetensors", arrays={"optimizer.t": np.array(1)})
    arrays, metadata = read_arrays(tmp_path / "a.safetensors")
    assert sorted(arrays) == [
        "model.cell.R",
        "model.cell.W",
        "model.cell.b",
        "model.embedding.weight",
        "model.head.bias",
        "model.head.weight",
        "optimizer.t",
    ]
    options = {"input_size": 4, "hidden_size": 8, "num_heads": 2, "forget_gate": "exp"}
    assert metadata == {
        "format": 1,
        "kind": "LanguageModel",
        "config": {
            "vocab_size": 7,
            "embedding_size": 4,
            "cell": {"kind": "sLSTM", "options": options},
            "options": {"tied": False, "head_bias": True, "cap": None, "embedding_dropout": 0.0},
        },
        "tokenizer": None,
        "training": {},
    }


@dataclass(frozen=True)
class Width(Config):
    width: int


class Configured(Module):
    """A model that is made from a configuration, for the test."""

    def __init__(self, config: Width, *, dtype: Any, rng: np.random.Generator) -> None:
        self.config = config
        self.cell = LSTM(config.width, config.width, dtype=dtype, rng=rng)
        self.submodules = {"cell": "cell"}


def test_another_kind_can_be_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = Configured(Width(3), dtype=np.float32, rng=np.random.default_rng(8))
    with pytest.raises(CheckpointError, match=r"kind: expected one of LanguageModel.*'Configured'"):
        save_pretrained(model, tmp_path / "a.safetensors")
    monkeypatch.setitem(KINDS, "Configured", Kind.configured(Configured, Width))
    save_pretrained(model, tmp_path / "a.safetensors")
    loaded: Any = from_pretrained(tmp_path / "a.safetensors")
    assert loaded.config == Width(3)
    np.testing.assert_array_equal(
        loaded.params["cell.weight_hh_l0"], model.params["cell.weight_hh_l0"]
    )
    monkeypatch.delitem(KINDS, "Configured")
    with pytest.raises(CheckpointError, match=r"kind: expected one of .*got 'Configured'"):
        open_pretrained(tmp_path / "a.safetensors")


def test_names_that_are_taken(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"names without prefix 'model\.'; got 'model\.x'"):
        save_pretrained(build(), tmp_path / "a.safetensors", arrays={"model.x": np.ones(1)})


def test_a_cell_of_another_kind(tmp_path: Path) -> None:
    class Other(LSTM):
        pass

    model = LanguageModel(7, 4, Other(4, 8))
    with pytest.raises(CheckpointError, match=r"body: expected one of LSTM, GRU, RNN, .*; got Oth"):
        save_pretrained(model, tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("tokenizer", 3, "an object with to_dict; got int"),
        ("tokenizer", ByteTokenizer, "an object with to_dict; got type"),
        ("training", 3, "a Mapping; got int"),
        ("training", "step", "a Mapping; got str"),
        ("arrays", [1], "a Mapping; got list"),
        ("arrays", np.ones(2), "a Mapping; got ndarray"),
    ],
)
def test_what_comes_with_a_model_is_of_another_kind(
    name: str, value: Any, expected: str, tmp_path: Path
) -> None:
    options: Any = {name: value}
    with pytest.raises(OptionError, match=f"{name}: expected {expected}"):
        save_pretrained(build(), tmp_path / "a.safetensors", **options)
    assert list(tmp_path.iterdir()) == []


# Layers with PyTorch's names, whose kind is detected from the shapes

LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "LSTM": (LSTM, {}),
    "LSTM-deep": (LSTM, {"num_layers": 3, "bidirectional": True, "dropout": 0.5}),
    "LSTM-projected": (LSTM, {"num_layers": 2, "proj_size": 2, "bidirectional": True}),
    "LSTM-no-bias": (LSTM, {"bias": False, "batch_first": False}),
    "GRU": (GRU, {"num_layers": 2, "bidirectional": True}),
    "RNN": (RNN, {"nonlinearity": "relu", "bias": False, "num_layers": 2, "dropout": 0.1}),
}


def torch_layer(name: str, dtype: Any = np.float32) -> Any:
    kind, options = LAYERS[name]
    return kind(3, 4, **options, dtype=dtype, rng=np.random.default_rng(0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("suffix", ["torch", "safetensors"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back_bit_for_bit(name: str, suffix: str, dtype: str, tmp_path: Path) -> None:
    layer = torch_layer(name, dtype)
    path = tmp_path / ("a.safetensors" if suffix == "torch" else f"a.{suffix}")
    save_pretrained(layer, path, format=suffix)
    loaded = from_pretrained(path, type(layer))
    for option in (*LAYERS[name][1], "batch_first"):
        assert getattr(loaded, option) == getattr(layer, option)
    assert_same(dict(loaded.params), dict(layer.params))
    x = np.random.default_rng(1).standard_normal((5, 2, 3)).astype(dtype)
    np.testing.assert_array_equal(loaded(x)[0], layer(x)[0])
    trained = (each.forward(x, rng=np.random.default_rng(2))[0] for each in (loaded, layer))
    np.testing.assert_array_equal(*trained)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", LAYERS)
def test_pytorch_takes_them_and_its_own_are_read(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    layer, (kind, options) = torch_layer(name), LAYERS[name]
    save_pretrained(layer, tmp_path / "ours.safetensors", format="torch")
    theirs = getattr(torch.nn, kind.__name__)(3, 4, **({"batch_first": True} | options)).eval()
    theirs.load_state_dict(library.load_file(tmp_path / "ours.safetensors"), strict=True)
    x = np.random.default_rng(1).standard_normal((5, 2, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor(x))[0].numpy()
    np.testing.assert_allclose(layer(x)[0], expected, rtol=1e-5, atol=1e-6)
    holder = torch.nn.ModuleDict({"rnn": theirs})
    library.save_file(holder.state_dict(), tmp_path / "theirs.safetensors")
    assert_same(dict(from_pretrained(tmp_path / "theirs.safetensors").params), dict(layer.params))
