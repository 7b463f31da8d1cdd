"""GRU, Elman and peephole LSTM beside PyTorch, FlashRNN, ONNX Runtime and ONNX's own evaluator."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.numerics import Array
from tests.cells.guests import build, normal
from tests.variants import assert_close

SIZES = pytest.mark.parametrize(("B", "T", "D", "H"), [(1, 1, 1, 1), (2, 7, 3, 4), (5, 20, 4, 2)])


def _torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")


def _onnx() -> Any:
    return pytest.importorskip("onnx", reason="onnx (the extra 'peers') is not installed")


def _leaf(array: Array) -> Any:
    return _torch().tensor(array, requires_grad=True)


def _compare_gradients(
    guest: Any, results: tuple[Any, Any], leaves: tuple[Any, Any, dict[str, Any]]
) -> None:
    """Outputs, state and all gradients of a built guest, beside those of tensors (y, last h)."""
    cell, xs, state, rng = guest
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
    guest = cell, xs, state, _ = build("GRU", B, T, D, H, seed=T)
    theirs = _torch().nn.GRU(D, H, batch_first=True).double()
    names = {"W": "weight_ih_l0", "R": "weight_hh_l0", "b": "bias_ih_l0", "b_h": "bias_hh_l0"}
    tensors = {theirs_: _torch().tensor(cell.params[ours]) for ours, theirs_ in names.items()}
    theirs.load_state_dict(tensors)
    tx, th = _leaf(xs), _leaf(state.h)
    y, last = theirs(tx, th[None])
    weights = {ours: getattr(theirs, theirs_) for ours, theirs_ in names.items()}
    _compare_gradients(guest, (y, last[0]), (tx, th, weights))


@SIZES
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_of_pytorch(B: int, T: int, D: int, H: int, nonlinearity: str) -> None:
    guest = cell, xs, state, rng = build(f"Elman-{nonlinearity}", B, T, D, H, seed=T)
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
    _compare_gradients(guest, (y, last[0]), (tx, th, weights))


@SIZES
@pytest.mark.parametrize("function", ["gru", "elman"])
def test_vanilla_flashrnn(B: int, T: int, D: int, H: int, function: str) -> None:
    """Its rows of R and its biases begin with the candidate's; r and z have one bias each."""
    torch = _torch()
    vanilla = pytest.importorskip(
        "flashrnn.flashrnn.vanilla",
        reason="flashrnn (the extra 'peers') is not installed",
        exc_type=ImportError,
    )
    guest = cell, xs, state, _ = build(
        {"gru": "GRU", "elman": "Elman-tanh"}[function], B, T, D, H, seed=T
    )
    weights = {name: _leaf(array) for name, array in cell.params.items()}
    tx, th, gates = _leaf(xs), _leaf(state.h), len(cell.params["b"]) // H
    Wx = (tx @ weights["W"].T).reshape(B, T, gates, 1, H).swapaxes(0, 1)
    R, b = weights["R"].reshape(gates, H, H), weights["b"].reshape(gates, 1, H)
    if function == "gru":
        b_h = weights["b_h"].reshape(gates, 1, H)
        R, b = R[[2, 0, 1]], torch.cat([b_h[2:], b[:2] + b_h[:2], b[2:]])
    pointwise = vanilla.flashrnn_pointwise_function_registry[function]
    R = R.permute(2, 0, 1)[None].contiguous()
    states, last = vanilla.flashrnn_forward(Wx, th.reshape(1, B, 1, 1, H), R, b, pointwise)
    y = states[:, :, 0, 0].swapaxes(0, 1)
    _compare_gradients(guest, (y, last[0, :, 0, 0]), (tx, th, weights))


def _reordered(array: Array, ours: str, theirs: str) -> Array:
    """Rows of gates in another order."""
    parts = dict(zip(ours, np.split(array, len(ours)), strict=True))
    return np.concatenate([parts[gate] for gate in theirs])


def _lstm_operator(cell: Any, xs: Array, state: Any, lengths: Any) -> tuple[Any, dict[str, Array]]:
    """A model of one node, ONNX's LSTM with peepholes, and what to feed to it."""
    onnx, H = _onnx(), cell.hidden_size
    weights = {name: _reordered(cell.params[name], "ifzo", "iofz") for name in "WRb"}
    half = normal(weights["b"], np.random.default_rng(1))
    feed = {
        "X": xs.swapaxes(0, 1),
        "W": weights["W"][None],
        "R": weights["R"][None],
        "B": np.concatenate([weights["b"] - half, half])[None],
        "sequence_lens": lengths,
        "initial_h": state.h[None],
        "initial_c": state.c[None],
        "P": _reordered(cell.params["P"], "ifo", "iof")[None],
    }
    feed = {name: np.ascontiguousarray(a) for name, a in feed.items() if a is not None}
    order = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
    outputs = ("Y", "Y_h", "Y_c")
    node = onnx.helper.make_node(
        "LSTM", [name if name in feed else "" for name in order], outputs, hidden_size=H
    )
    kind = onnx.helper.np_dtype_to_tensor_dtype
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "peephole",
        [info(name, kind(a.dtype), a.shape) for name, a in feed.items()],
        [info(name, kind(xs.dtype), None) for name in outputs],
    )
    opset = onnx.helper.make_opsetid("", 14)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), feed


@SIZES
@pytest.mark.parametrize("padded", [False, True])
def test_lstm_operator_of_onnxruntime(B: int, T: int, D: int, H: int, padded: bool) -> None:
    runtime = pytest.importorskip(
        "onnxruntime", reason="onnxruntime (the extra 'peers') is not installed"
    )
    cell, xs, state, rng = build("peephole", B, T, D, H, seed=T, dtype=np.float32)
    lengths = rng.integers(1, T + 1, B).astype(np.int32) if padded else None
    model, feed = _lstm_operator(cell, xs, state, lengths)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    Y, Y_h, Y_c = session.run(None, feed)
    ys, last, _ = unroll(cell, xs, state, lengths=lengths)
    assert_close((ys, last.h, last.c), (Y[:, 0].swapaxes(0, 1), Y_h[0], Y_c[0]), 2e-6)


@SIZES
def test_lstm_operator_of_onnx_reference_evaluator(B: int, T: int, D: int, H: int) -> None:
    """In float64. It ignores ``sequence_lens``."""
    _onnx()
    from onnx.reference import ReferenceEvaluator

    cell, xs, state, _ = build("peephole", B, T, D, H, seed=T)
    model, feed = _lstm_operator(cell, xs, state, None)
    evaluator: Any = ReferenceEvaluator(model)
    Y, Y_h, Y_c = evaluator.run(None, feed)
    ys, last, _ = unroll(cell, xs, state)
    assert_close((ys, last.h, last.c), (Y[:, 0].swapaxes(0, 1), Y_h[0], Y_c[0]), 1e-13)
