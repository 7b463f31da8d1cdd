"""GRU and Elman compared with PyTorch; see ``test_outside.py`` for ONNX and FlashRNN."""

from typing import Any

import pytest

from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.numerics import Array
from tests.cells.custom_cells import build, normal
from tests.variants import assert_close

SIZES = pytest.mark.parametrize(("B", "T", "D", "H"), [(1, 1, 1, 1), (2, 7, 3, 4), (5, 20, 4, 2)])


def _torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")


def _leaf(array: Array) -> Any:
    return _torch().tensor(array, requires_grad=True)


def _compare_gradients(
    custom: Any, results: tuple[Any, Any], leaves: tuple[Any, Any, dict[str, Any]]
) -> None:
    """Outputs, state and all gradients of a built custom, beside those of tensors (y, last h)."""
    cell, xs, state, rng = custom
    ys, last, cache = unroll(cell, xs, state)
    assert_close((ys, last.h), tuple(t.detach().numpy() for t in results), 1e-13)
    dys, dlast = normal(ys, rng), normal(last, rng)
    torch = _torch()
    pairs = zip(results, (dys, dlast.h), strict=True)
    sum((tensor * torch.tensor(d)).sum() for tensor, d in pairs).backward()
    dxs, dstate0, grads = unroll_backward(cell, dys, cache, dlast)
    tx, th, weights = leaves
    assert_close((dxs, dstate0.h), (tx.grad.numpy(), th.grad.numpy()), 1e-12)
    for name, grad in grads.items():
        assert_close(grad, weights[name].grad.numpy(), 1e-12)


@SIZES
def test_gru_of_pytorch(B: int, T: int, D: int, H: int) -> None:
    custom = cell, xs, state, _ = build("GRU", B, T, D, H, seed=T)
    theirs = _torch().nn.GRU(D, H, batch_first=True).double()
    names = {"W": "weight_ih_l0", "R": "weight_hh_l0", "b": "bias_ih_l0", "b_h": "bias_hh_l0"}
    tensors = {theirs_: _torch().tensor(cell.params[ours]) for ours, theirs_ in names.items()}
    theirs.load_state_dict(tensors)
    tx, th = _leaf(xs), _leaf(state.h)
    y, last = theirs(tx, th[None])
    weights = {ours: getattr(theirs, theirs_) for ours, theirs_ in names.items()}
    _compare_gradients(custom, (y, last[0]), (tx, th, weights))


@SIZES
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_of_pytorch(B: int, T: int, D: int, H: int, nonlinearity: str) -> None:
    custom = cell, xs, state, rng = build(f"Elman-{nonlinearity}", B, T, D, H, seed=T)
    cell.params["R"][...] /= H  # relu does not bound what grows over many steps
    theirs = _torch().nn.RNN(D, H, nonlinearity=nonlinearity, batch_first=True).double()
    b_hh = rng.standard_normal(H)
    arrays = {"weight_ih_l0": cell.params["W"], "weight_hh_l0": cell.params["R"]}
    arrays |= {"bias_ih_l0": cell.params["b"] - b_hh, "bias_hh_l0": b_hh}
    theirs.load_state_dict({name: _torch().tensor(array) for name, array in arrays.items()})
    tx, th = _leaf(xs), _leaf(state.h)
    y, last = theirs(tx, th[None])
    names = {"W": "weight_ih_l0", "R": "weight_hh_l0", "b": "bias_ih_l0"}
    weights = {ours: getattr(theirs, theirs_) for ours, theirs_ in names.items()}
    _compare_gradients(custom, (y, last[0]), (tx, th, weights))
