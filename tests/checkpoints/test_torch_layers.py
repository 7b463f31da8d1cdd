"""Layers with PyTorch's names, whose kind is detected from the shapes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import GRU, LSTM, RNN, from_pretrained, save_pretrained
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
