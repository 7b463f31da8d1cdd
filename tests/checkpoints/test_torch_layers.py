"""Layers with PyTorch's names, whose kind is detected from the shapes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import GRU, LSTM, RNN, from_pretrained, save_pretrained
from numpy_xlstm.errors import CheckpointError
from tests.checkpoints.build import read_safetensors, write_safetensors
from tests.models.build import assert_same

LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "LSTM": (LSTM, {}),
    "LSTM-deep": (LSTM, {"num_layers": 3, "bidirectional": True, "dropout": 0.5}),
    "LSTM-projected": (LSTM, {"num_layers": 2, "proj_size": 2, "bidirectional": True}),
    "LSTM-no-bias": (LSTM, {"bias": False, "batch_first": False}),
    "GRU": (GRU, {"num_layers": 2, "bidirectional": True}),
    "RNN": (RNN, {"nonlinearity": "relu", "bias": False, "num_layers": 2, "dropout": 0.1}),
}


def build(name: str, dtype: Any = np.float32) -> Any:
    kind, options = LAYERS[name]
    return kind(3, 4, **options, dtype=dtype, rng=np.random.default_rng(0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("suffix", ["torch", "safetensors"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back_bit_for_bit(name: str, suffix: str, dtype: str, tmp_path: Path) -> None:
    layer = build(name, dtype)
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
    layer, (kind, options) = build(name), LAYERS[name]
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_hh_l0": None}, "expected 'weight_hh_l0' too; got none"),
        ({"bias_hh_l0": None}, "expected 'bias_hh_l0' too; got none"),
        ({"weight_ih_l5": "weight_ih_l0"}, "expected .*_l3"),
        ({"head.weight": "weight_ih_l0"}, "expected no 'head.weight'|one layer"),
    ],
    ids=str,
)
def test_what_is_no_layer(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_pretrained(build("LSTM-deep"), path, format="torch")
    header, data = read_safetensors(path)
    arrays = {n: data[slice(*e["data_offsets"])] for n, e in header.items() if n[0] != "_"}
    for name, like in change.items():
        header.pop(name, None)
        arrays.pop(name, None)
        if like is not None:
            header[name], arrays[name] = dict(header[like]), arrays[like]
    start = 0
    for name, content in arrays.items():
        header[name]["data_offsets"] = [start, start := start + len(content)]
    write_safetensors(path, header, b"".join(arrays.values()))
    with pytest.raises(CheckpointError, match=message):
        from_pretrained(path)


@pytest.mark.parametrize("dropout", ["much", "nan", "1", "-0.5"])
def test_a_dropout_that_is_none(dropout: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_pretrained(build("LSTM-deep"), path, format="torch")
    header, data = read_safetensors(path)
    assert header["__metadata__"]["dropout"] == "0.5"
    header["__metadata__"]["dropout"] = dropout
    write_safetensors(path, header, data)
    with pytest.raises(CheckpointError, match=f"dropout: expected .*; got '?{dropout}"):
        from_pretrained(path)
