"""The call of the notebook, and transfer of weights to and from ``torch.nn.LSTM``."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import GRU, LSTM, RNN
from tests.variants import assert_close

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")


def test_the_notebook_call_gives_the_same_numbers() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = LSTM(5, 5, 1, batch_first=False, rng=rng), torch.nn.LSTM(5, 5, 1).double()
    ours.load_state_dict(theirs.state_dict())
    x, (h0, c0) = rng.standard_normal((2, 10, 5)), rng.standard_normal((2, 1, 10, 5))
    out, (h, c) = ours(x, (h0, c0))
    expected, (hn, cn) = theirs(torch.tensor(x), (torch.tensor(h0), torch.tensor(c0)))
    assert out.shape == (2, 10, 5)
    assert_close((out, h, c), tuple(t.detach().numpy() for t in (expected, hn, cn)), 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (LSTM, {"bidirectional": True, "proj_size": 2}),
        (LSTM, {"bias": False}),
        (GRU, {"bidirectional": True}),
        (RNN, {"nonlinearity": "relu"}),
    ],
)
def test_weights_go_there_and_back_bit_for_bit(kind: Any, options: Any, dtype: Any) -> None:
    """Also the two biases, of which this package only needs the sum."""
    rng = np.random.default_rng(1)
    ours = kind(3, 4, 3, dtype=dtype, rng=rng, **options)
    other = kind(3, 4, 3, dtype=dtype, rng=rng, **options)
    theirs = getattr(torch.nn, kind.__name__)(3, 4, 3, **options).to(getattr(torch, dtype.__name__))
    assert list(ours.params) == list(theirs.state_dict())
    theirs.load_state_dict({name: torch.tensor(w) for name, w in ours.state_dict().items()})
    other.load_state_dict(theirs.state_dict())
    for name, array in ours.params.items():
        assert array.tobytes() == theirs.state_dict()[name].numpy().tobytes(), name
        assert array.tobytes() == other.params[name].tobytes(), name


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_the_start_is_that_of_pytorch(kind: Any) -> None:
    """Uniform in ±1/√H, the biases too, in every layer and direction."""
    ours = kind(40, 100, 2, bidirectional=True, rng=np.random.default_rng(2))
    torch.manual_seed(2)  # the bounds below hold for most seeds
    theirs = getattr(torch.nn, kind.__name__)(40, 100, 2, bidirectional=True)
    for name, array in ours.params.items():
        there = theirs.state_dict()[name].numpy()
        assert array.shape == there.shape
        for found in (array, there):
            assert 0.09 < np.abs(found).max() <= 0.1, name
            assert abs(found.mean()) < 0.02, name
            assert found.std() == pytest.approx(0.1 / 3**0.5, rel=0.15), name
