"""Bad input raises an error with what was expected and what came, before any computation."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    LSTM,
    LSTMCell,
    LSTMState,
    gate_rows,
    mLSTM,
    mlstm_chunkwise,
    mlstm_chunkwise_backward,
    mlstm_parallel,
    mlstm_parallel_backward,
    mlstm_recurrent,
    mlstm_recurrent_backward,
    mLSTMCell,
    mLSTMState,
    sLSTM,
    unroll,
    unroll_backward,
)
from numpy_xlstm.errors import (
    CacheError,
    DTypeError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from numpy_xlstm.layers import LSTMSequence
from tests.variants import VARIANTS, Sizes, Variant, make

S = Sizes(2, 4, 3, 2, 2, 2, True, 1e-6, 0)


def _case(variant: Variant) -> Any:
    return make(variant, S)


DTYPES = "float32, float64, longdouble, complex128, clongdouble"


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda x: x[0], ShapeError, "x: expected shape (batch, time, 3); got (4, 3)"),
        (lambda x: x[..., :2], ShapeError, "x: expected shape (batch, time, 3); got (2, 4, 2)"),
        (lambda x: x[:0], ShapeError, "x: expected a batch of at least 1; got shape (0, 4, 3)"),
        (lambda x: x.astype(int), DTypeError, "got int64; write x.astype(np.float64)"),
        (lambda x: x.astype(np.float32), DTypeError, "x: expected float64, the dtype of the"),
        (lambda x: x.astype(np.float16), DTypeError, f"x: expected one of {DTYPES}; got"),
        (lambda x: x.astype(">f8"), DTypeError, "x: expected the byte order of this machine; got"),
        (lambda x: x.tolist(), DTypeError, "x: expected a NumPy array; got list"),
        (lambda x: np.where(x == x[1, 2, 0], np.nan, x), NonFiniteError, "got nan at index (1, 2"),
        (lambda x: x + np.inf, NonFiniteError, "24 of 24 entries are not finite"),
    ],
)
def test_input(variant: Variant, spoil: Any, error: type[Exception], message: str) -> None:
    case = _case(variant)
    for call in (case.layer.forward, case.layer):
        with pytest.raises(error, match=re.escape(message)):
            call(spoil(case.x), case.state)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda s: s[:1], ShapeError, "state: expected a tuple ("),
        (lambda s: 3, ShapeError, "got int"),
        (lambda s: type(s)(s[0][:1], *s[1:]), ShapeError, "; got (1, "),
        (lambda s: type(s)(s[0].astype(np.float32), *s[1:]), DTypeError, "got float32"),
        (lambda s: type(s)(s[0] * np.nan, *s[1:]), NonFiniteError, "expected finite numbers"),
        (lambda s: type(s)(s[0] - np.inf, *s[1:]), NonFiniteError, "expected finite numbers"),
    ],
)
def test_state(variant: Variant, spoil: Any, error: type[Exception], message: str) -> None:
    case = _case(variant)
    with pytest.raises(error, match=re.escape(message)):
        case.layer.forward(case.x, spoil(case.state))
    dy, dstate = case.cotangents()
    _, _, cache = case.layer.forward(case.x, case.state)
    with pytest.raises(error, match=re.escape(message.replace("state", "dstate"))):
        case.layer.backward(dy, cache, spoil(dstate))
    with pytest.raises(ShapeError, match="dy: expected shape"):
        case.layer.backward(dy[:, :1], cache, dstate)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_step(variant: Variant) -> None:
    case = make(variant, S, step=True)
    with pytest.raises(ShapeError, match=re.escape("x: expected shape (batch, 3); got (2, 1, 3)")):
        case.layer.forward(case.x[:, None], case.state)
    with pytest.raises(ShapeError, match="expected a batch of at least 1"):
        case.layer.forward(case.x[:0])
    _, _, cache = case.layer.forward(case.x, case.state)
    with pytest.raises(ShapeError, match="dh: expected shape"):
        case.layer.backward(np.ones((1, 4)), cache)


def test_a_state_of_another_batch_size_hints_at_the_layout() -> None:
    h = np.zeros((1, 10, 5))
    with pytest.raises(ShapeError, match=r"expected shape \(2, 5\); got \(10, 5\); x is read as"):
        sLSTM(5, 5).forward(np.zeros((2, 10, 5)), (h[0],) * 4)


@pytest.mark.parametrize(
    ("make_layer", "message"),
    [
        (lambda: sLSTM(3, 4, 3), "num_heads: expected a divisor of hidden_size = 4; got 3"),
        (lambda: mLSTM(3, 4, 2, qk_dim=5), "num_heads: expected a divisor of qk_dim = 5; got 2"),
        (lambda: mLSTM(3, 5, 2), "num_heads: expected a divisor of hidden_size = 5; got 2"),
        (lambda: sLSTM(3, 4, forget_gate="tanh"), "'sigmoid', 'exp'; got 'tanh'"),
        (lambda: mLSTM(3, 4, forget_gate="relu"), "'sigmoid', 'exp'; got 'relu'"),
        (lambda: mLSTM(3, 4, input_gate="tanh"), "input_gate: expected one of 'sigmoid', 'exp'"),
        (lambda: mLSTM(3, 4, form="quadratic"), "form: expected one of"),
        (lambda: mLSTM(3, 4, eps=-1.0), "eps: expected a finite number, at least 0; got -1.0"),
        (lambda: mLSTM(3, 4, eps=np.nan), "eps: expected a finite number, at least 0; got nan"),
        (lambda: LSTM(0, 4), "input_size: expected a whole number, at least 1; got 0"),
        (lambda: LSTM(3, 4.0), "hidden_size: expected a whole number, at least 1; got 4.0"),  # type: ignore[arg-type]
        (lambda: LSTMCell(3, 4).init_state(0), "batch_size: expected a whole number"),
    ],
)
def test_options(make_layer: Any, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        make_layer()


@pytest.mark.parametrize("dtype", [int, np.float16, bool])
def test_dtypes_of_layers(dtype: Any) -> None:
    with pytest.raises(DTypeError, match=f"dtype: expected one of {DTYPES}; got "):
        LSTM(3, 4, dtype=dtype)


@pytest.mark.parametrize(
    ("name", "spoil", "error", "message"),
    [
        ("q", lambda a: a[0], ShapeError, "q: expected shape (batch, heads, time, DK)"),
        ("k", lambda a: a[..., :2], ShapeError, "k: expected shape (2, 1, 4, 3)"),
        ("v", lambda a: a[:, :, :3], ShapeError, "v: expected shape (2, 1, 4, DV)"),
        ("i", lambda a: a[..., None], ShapeError, "i: expected shape (2, 1, 4)"),
        ("f", lambda a: a.astype(np.float32), DTypeError, "f: expected float64"),
        ("v", lambda a: a[..., :0], ShapeError, "expected at least 1 along"),
        ("f", lambda a: a * np.inf, NonFiniteError, "f: expected finite numbers"),
    ],
)
def test_mlstm_function(name: str, spoil: Any, error: type[Exception], message: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal((2, 1, 4, 3)) for n in "qkv"}
    arrays |= {n: rng.standard_normal((2, 1, 4)) for n in "if"}
    arrays[name] = spoil(arrays[name])
    with pytest.raises(error, match=re.escape(message)):
        mlstm_recurrent(arrays["q"], arrays["k"], arrays["v"], arrays["i"], arrays["f"])


def test_mlstm_states_fit_their_gates() -> None:
    q = np.ones((1, 1, 2, 3))
    i = np.ones((1, 1, 2))
    C = np.zeros((1, 1, 3, 3))
    with pytest.raises(ShapeError, match=r"state\.n: expected None; got ndarray"):
        mlstm_recurrent(q, q, q, i, i, mLSTMState(C, q[:, :, 0], i[..., 0]), input_gate="sigmoid")
    with pytest.raises(
        DTypeError, match=re.escape("state.n: expected a NumPy array; got NoneType")
    ):
        mlstm_recurrent(q, q, q, i, i, mLSTMState(C, None, None))
    h, _, cache = mlstm_recurrent(q, q, q, i, i)
    with pytest.raises(NonFiniteError, match=re.escape("dstate.m: expected finite numbers")):
        mlstm_recurrent_backward(h, cache, mLSTMState(C, q[:, :, 0], i[..., 0] - np.inf))


def test_parameters_must_fit() -> None:
    lstm = LSTMSequence(3, 4)
    with pytest.raises(ShapeError, match=re.escape("params: expected ['b'] too")):
        lstm.with_params({"W": lstm.params["W"], "R": lstm.params["R"]})
    with pytest.raises(ShapeError, match=re.escape("got ['c']")):
        lstm.with_params(dict(lstm.params) | {"c": np.zeros(3)})
    with pytest.raises(ShapeError, match=re.escape("b: expected shape (16,); got (3,)")):
        lstm.with_params(dict(lstm.params) | {"b": np.zeros(3)})


def test_the_right_state_is_accepted_as_a_plain_tuple() -> None:
    lstm = LSTMSequence(3, 4)
    _, state, _ = lstm.forward(np.ones((2, 1, 3)), (np.ones((2, 4)), np.ones((2, 4))))
    assert isinstance(state, LSTMState)


def test_a_cotangent_of_m_is_finite() -> None:
    layer = sLSTM(3, 4)
    y, last, cache = layer.forward(np.ones((2, 3, 3)))
    with pytest.raises(NonFiniteError, match=r"dstate\.m: expected finite numbers"):
        layer.backward(y, cache, last._replace(m=last.m - np.inf))


FORMS: dict[str, tuple[Any, Any]] = {
    "mlstm_recurrent": (mlstm_recurrent, mlstm_recurrent_backward),
    "mlstm_parallel": (mlstm_parallel, mlstm_parallel_backward),
    "mlstm_chunkwise": (mlstm_chunkwise, mlstm_chunkwise_backward),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_mlstm_without_its_cache(name: str) -> None:
    _, backward = FORMS[name]
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 1, 2, 5, 4))
    gates = rng.standard_normal((2, 1, 2, 5))
    cache = FORMS[name][0](q, k, v, *gates)[2]
    for wrong in (None, q, tuple(cache), mLSTM(4, 4).forward(q[0])[2]):
        message = rf"cache: expected the \w*Cache that .* returned; got {type(wrong).__name__}"
        with pytest.raises(CacheError, match=message):
            backward(v, wrong)
    backward(v, cache)


def test_parallel_and_chunkwise_form_read_each_others_caches() -> None:
    """The caches of both forms record the chunks, and the gradients are the same."""
    rng = np.random.default_rng(0)
    q, k, v, dh = rng.standard_normal((4, 1, 2, 5, 4))
    i, f = rng.standard_normal((2, 1, 2, 5))
    whole = mlstm_parallel(q, k, v, i, f)[2]
    cut = mlstm_chunkwise(q, k, v, i, f, chunk_size=2)[2]
    expected = mlstm_parallel_backward(dh, whole)[:5]
    for found in (mlstm_chunkwise_backward(dh, whole), mlstm_parallel_backward(dh, cut)):
        for got, want in zip(found[:5], expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("layer", [LSTM(3, 4), sLSTM(3, 4)])
def test_a_ragged_state(layer: Any) -> None:
    x = np.ones((2, 5, 3))
    y, after, cache = layer.forward(x)
    ragged = (((1.0,), (1.0, 2.0)),) * len(after)
    calls: list[Callable[[], Any]] = [
        lambda: layer.forward(x, ragged),
        lambda: layer(x, ragged),
        lambda: layer.backward(y, cache, ragged),
    ]
    for call in calls:
        with pytest.raises(DTypeError, match=r"state\.h: expected a NumPy array; got tuple"):
            call()


def test_an_array_without_axes_as_the_state_of_an_mlstm() -> None:
    with pytest.raises(ShapeError, match=r"state: expected a tuple \(C, n, m\); got an array"):
        mLSTM(3, 4).forward(np.ones((2, 5, 3)), np.array(1.0))


@pytest.mark.parametrize("make", [sLSTM, mLSTM])
def test_without_a_stabiliser_there_is_no_memory(make: Any) -> None:
    """Where m is −inf, the entry is empty for any c and n."""
    rng = np.random.default_rng(0)
    layer = make(3, 4, rng=rng)
    x, state = rng.standard_normal((2, 3, 3)), layer.init_state(2)
    memory = {
        name: rng.standard_normal(getattr(state, name).shape)
        for name in {"c", "C", "n"} & {*state._fields}
    }
    y, after = layer(x, state._replace(**memory))
    expected, empty = layer(x, state)
    np.testing.assert_array_equal(y, expected)
    for got, want in zip(after, empty, strict=True):
        np.testing.assert_array_equal(got, want)


def test_rows_of_what_has_no_four_gates() -> None:
    for array in (np.arange(7), np.float64(1), np.ones((9, 3)), np.ones((2, 2, 4, 4))):
        with pytest.raises(ShapeError, match="array: expected W, R or b of four gates; got"):
            gate_rows(np.asarray(array), "z")


def test_options_of_a_layer_are_those_of_its_cell() -> None:
    layer = mLSTM(3, 4, eps=0.5, forget_gate="exp")
    assert (layer.eps, layer.cell.eps, layer.options["eps"]) == (0.5, 0.5, 0.5)
    with pytest.raises(AttributeError):
        layer.eps = 1.0
    with pytest.raises(AttributeError):
        sLSTM(3, 4).forget_gate = "exp"


def test_what_stands_at_padding_is_no_part_of_any_gradient() -> None:
    rng = np.random.default_rng(0)
    cell, x = mLSTMCell(3, 4, rng=rng), rng.standard_normal((2, 4, 3))
    lengths, dy = np.array([4, 2]), rng.standard_normal((2, 4, 4))
    found = []
    for padding in (0.0, 1e308):
        x[1, 2:] = padding
        y, _, cache = unroll(cell, x, lengths=lengths)
        dx, _, grads = unroll_backward(cell, dy, cache)
        found.append([y, dx, *grads.values()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_parameters_of_two_dtypes() -> None:
    cell = LSTMCell(3, 4)
    params = {
        name: array.astype("f4" if name == "R" else "f8") for name, array in cell.params.items()
    }
    with pytest.raises(
        DTypeError, match=r"params: expected arrays of one dtype; got \['float32', "
    ):
        cell.with_params(params)
    with pytest.raises(DTypeError, match="int64"):
        cell.with_params({name: np.ones(a.shape, int) for name, a in cell.params.items()})


def test_no_cell_over_a_sequence() -> None:
    with pytest.raises(OptionError, match="cell: expected an object with init_state"):
        unroll(None, np.ones((1, 2, 3)))
