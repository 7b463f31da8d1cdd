"""Initial parameters have the distributions in the derivations."""

import numpy as np

from numpy_xlstm import GRU, LSTM, RNN, LSTMCell, gate_rows, mLSTMCell, sLSTMCell
from numpy_xlstm.cells import ElmanCell, GRUCell, OriginalGRUCell, PeepholeLSTMCell
from numpy_xlstm.numerics import Array
from tests.samples import is_normal, is_uniform

D, H, NH = 60, 400, 4


def uniform(array: Array, limit: float) -> bool:
    """Return whether numbers are uniform in (−limit, limit), up to both ends."""
    ends = array.min() < -0.97 * limit and array.max() > 0.97 * limit
    return bool(ends) and is_uniform(limit, array)


def test_uniform_cells() -> None:
    for cell in (GRUCell, OriginalGRUCell, ElmanCell, PeepholeLSTMCell, LSTMCell):
        for name, array in cell(D, H, rng=np.random.default_rng(0)).params.items():
            if cell in (LSTMCell, PeepholeLSTMCell) and name == "b":
                assert (gate_rows(array, "f") == 1).all()
                array = np.concatenate([gate_rows(array, gate) for gate in "izo"])
            assert uniform(array, H**-0.5), (cell, name)


def test_lstm_gru_and_rnn() -> None:
    """As in PyTorch, the limit of every parameter, also of a projection, depends on H."""
    options: dict[type, dict[str, int]] = {LSTM: {"proj_size": 100}, GRU: {}, RNN: {}}
    for layer, more in options.items():
        made = layer(D, H, 2, bidirectional=True, rng=np.random.default_rng(0), **more)
        for name, array in made.params.items():
            assert uniform(array, H**-0.5), (layer, name)


def test_slstm() -> None:
    for forget_gate in ("sigmoid", "exp"):
        cell = sLSTMCell(D, H, num_heads=NH, forget_gate=forget_gate, rng=np.random.default_rng(0))
        assert is_normal(np.sqrt(2 / (5 * D)), cell.params["W"])
        assert uniform(cell.params["R"], (H // NH) ** -0.5)
        one_head = np.linspace(3, 6, H // NH) * (forget_gate == "sigmoid")
        b_f = gate_rows(cell.params["b"], "f")
        assert b_f.tolist() == np.tile(one_head, NH).tolist()
        assert not any(gate_rows(cell.params["b"], gate).any() for gate in "izo")


def test_mlstm() -> None:
    for forget_gate in ("sigmoid", "exp"):
        rng = np.random.default_rng(0)
        params = mLSTMCell(D, 400, num_heads=200, forget_gate=forget_gate, rng=rng).params
        for gate in "qkvo":
            assert is_normal(np.sqrt(2 / (5 * D)), params[f"W_{gate}"]), gate
            assert not params[f"b_{gate}"].any(), gate
        assert not params["W_i"].any()
        assert not params["W_f"].any()
        assert 0.08 < params["b_i"].std() < 0.12
        expected = np.linspace(3, 6, 200) * (forget_gate == "sigmoid")
        assert params["b_f"].tolist() == expected.tolist()
