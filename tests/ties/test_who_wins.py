"""At ties and near ties, kernels and cells pass the gradient of m to the same argument."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import sLSTMCell
from numpy_xlstm.kernels import scan, slstm_recurrent, slstm_recurrent_backward
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import tree_map
from tests.ties.test_mlstm import FORMS, Case, bare_cell, only_m, pair

N = 400
KERNELS = ("slstm", *(f"mlstm {form}" for form in FORMS))


def bare(kind: str, dtype: Any) -> Any:
    """Make a cell with one unit and R = 0, whose pre-activations are entries of x."""
    if kind != "slstm":
        return bare_cell(Case(NH=1, DK=1, DV=1, forget_gate=gate(dtype)), dtype)
    cell = sLSTMCell(4, 1, dtype=dtype)
    params = {name: np.zeros_like(array) for name, array in cell.params.items()}
    return cell.with_params(params | {"W": np.eye(4, dtype=dtype)})


def gate(dtype: Any) -> str:
    """Return a forget gate of mLSTM; log σ is float64 in kernels, so that a float32 cannot tie."""
    return "exp" if dtype == np.float32 else "sigmoid"


def by_kernel(kind: str, x: Array, state: Any) -> Array:
    """Return the gradient of m before a step from that of m after it."""
    if kind == "slstm":
        R = np.zeros((1, 4, 1), x.dtype)
        y, after, cache = slstm_recurrent(x[:, None], R, state)
        _, _, dstate = slstm_recurrent_backward(np.zeros_like(y), cache, only_m(after))
    else:
        run, back = pair(kind.removeprefix("mlstm "))
        q, k, v, i, f = x.T[..., None, None].copy()
        h, after, cache = run(
            *(a[..., None] for a in (q, k, v)), i, f, state, forget_gate=gate(x.dtype)
        )
        *_, dstate = back(np.zeros_like(h), cache, only_m(after))
    dm: Array = dstate.m
    return dm.ravel()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KERNELS)
def test_they_agree_on_who_wins(kind: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If ĩ equals the A of the cell, A is the maximum; if ĩ is the next larger number, ĩ is."""
    # log σ by compiled functions may differ from NumPy's in the last digit.
    monkeypatch.setattr(scan, "compiled", lambda dtype: False)
    rng, cell = np.random.default_rng(0), bare(kind, dtype)
    x = rng.standard_normal((N, cell.input_size)).astype(dtype)
    i, f = x.T[:2] if kind == "slstm" else x.T[3:]
    f *= 5
    state = cell.init_state(N)
    m = rng.standard_normal(state.m.shape).astype(dtype)
    if kind != "slstm" and dtype == np.float32:
        m *= 0  # the kernels add m and log f in float64; avoid rounding of the sum
    state = tree_map(np.ones_like, state)._replace(m=m)
    A = cell.forward(x, state)[2].A.ravel()
    for wins, i_pre in ((1, A), (0, np.nextafter(A, dtype(np.inf)))):
        i[...] = i_pre
        _, after, cache = cell.forward(x, state)
        _, dstate, _ = cell.backward(np.zeros((N, 1), dtype), cache, only_m(after))
        assert dstate.m.ravel().tolist() == [wins] * N
        assert by_kernel(kind, x, state).tolist() == [wins] * N
