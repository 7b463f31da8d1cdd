"""A kind of gate is one entry of a table: its log, the slope, and initial biases."""

import numpy as np
import pytest

from numpy_xlstm import gradcheck, mLSTM, mLSTMCell, sLSTMCell
from numpy_xlstm.cells.gates import GATE_KINDS, Kind
from numpy_xlstm.numerics import Array


def softplus_slope(pre: Array) -> Array:
    return -1 / (1 + np.exp(-pre))


DECAY = Kind(lambda pre: -np.log1p(np.exp(pre)), softplus_slope, (-6, -3))
"""e^(−softplus(x)) = 1 − σ(x), as in a selective state-space model."""


@pytest.mark.parametrize("wrong", [False, True])
def test_a_kind_is_added_by_one_entry(wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = DECAY._replace(slope=np.ones_like) if wrong else DECAY
    monkeypatch.setitem(GATE_KINDS, "decay", kind)
    rng = np.random.default_rng(0)
    slstm = sLSTMCell(3, 4, num_heads=2, forget_gate="decay", rng=rng)
    mlstm = mLSTMCell(3, 4, num_heads=2, forget_gate="decay", rng=rng)
    np.testing.assert_array_equal(mlstm.params["b_f"], [-6, -3])
    x = rng.standard_normal((2, 3))
    for cell in (slstm, mlstm):
        _, state, _ = cell.forward(x)
        assert gradcheck(cell, x, state, rng=0).passed is not wrong
    layer = mLSTM(3, 4, num_heads=2, forget_gate="decay", rng=rng)
    assert gradcheck(layer, rng.standard_normal((2, 3, 3)), rng=0).passed is not wrong
