"""The three forms of mLSTM are one function: outputs, states, gradients, at any cut."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_xlstm import (
    gradcheck,
    mLSTM,
    mlstm_chunkwise,
    mlstm_chunkwise_backward,
    mlstm_parallel,
    mlstm_parallel_backward,
    mlstm_recurrent,
    mlstm_recurrent_backward,
    mLSTMState,
)
from numpy_xlstm.cells.mlstm import chunkwise, pieces
from numpy_xlstm.numerics import Array, threads
from tests.variants import FORGET, INPUT, assert_close

FORMS: dict[str, tuple[Any, Any]] = {
    "recurrent": (mlstm_recurrent, mlstm_recurrent_backward),
    "parallel": (mlstm_parallel, mlstm_parallel_backward),
    "chunkwise": (mlstm_chunkwise, mlstm_chunkwise_backward),
}


@dataclass(frozen=True)
class Point:
    """Sizes, options and the seed of the numbers of one case."""

    B: int
    NH: int
    T: int
    DK: int
    DV: int
    chunk_size: int
    group_size: int
    eps: float
    forget_gate: str
    input_gate: str
    with_state: bool
    with_lengths: bool
    gate_scale: float
    seed: int

    def options(self) -> dict[str, Any]:
        rng = np.random.default_rng(self.seed)
        lengths = rng.integers(0, self.T + 1, self.B) if self.with_lengths else None
        return {
            "lengths": lengths,
            "eps": self.eps,
            "forget_gate": self.forget_gate,
            "input_gate": self.input_gate,
        }

    def arrays(self, dtype: Any = np.float64) -> tuple[tuple[Any, ...], Array, mLSTMState]:
        """Inputs with the state, and cotangents of the output and of the final state."""
        rng = np.random.default_rng(self.seed)
        batch = (self.B, self.NH, self.T)
        q, k = rng.standard_normal((2, *batch, self.DK)).astype(dtype)
        v, dh = rng.standard_normal((2, *batch, self.DV)).astype(dtype)
        i, f = (self.gate_scale * rng.standard_normal((2, *batch))).astype(dtype)
        state = self.state(rng, dtype) if self.with_state else None
        return (q, k, v, i, f, state), dh, self.state(rng, dtype)

    def state(self, rng: np.random.Generator, dtype: Any) -> mLSTMState:
        heads = (self.B, self.NH)
        shapes = ((*heads, self.DK, self.DV), (*heads, self.DK), heads)
        C, n, m = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        return mLSTMState(C, n, m) if self.input_gate == "exp" else mLSTMState(C, None, None)


points = st.builds(
    Point,
    B=st.integers(1, 3),
    NH=st.integers(1, 2),
    T=st.integers(0, 20),
    DK=st.integers(1, 4),
    DV=st.integers(1, 4),
    chunk_size=st.integers(1, 22),
    group_size=st.sampled_from([1, 50, 2**18]),
    eps=st.sampled_from([0.0, 1e-6, 0.3]),
    forget_gate=st.sampled_from(FORGET),
    input_gate=st.sampled_from(INPUT),
    with_state=st.booleans(),
    with_lengths=st.booleans(),
    gate_scale=st.sampled_from([0.3, 1.0, 4.0]),
    seed=st.integers(0, 2**32 - 1),
)


def run(form: str, point: Point, dtype: Any = np.float64) -> tuple[tuple[Any, ...], Any]:
    """Outputs and final state, and all gradients."""
    forward, backward = FORMS[form]
    inputs, dh, dstate = point.arrays(dtype)
    options = point.options()
    if form == "chunkwise":
        options["chunk_size"] = point.chunk_size
    h, last, cache = forward(*inputs, **options)
    return (h, last), backward(dh, cache, dstate)


@settings(max_examples=600)
@given(points)
def test_forms_agree(point: Point) -> None:
    outputs, gradients = run("recurrent", point)
    scale = max((float(np.abs(g).max(initial=0)) for g in gradients[:5]), default=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunkwise, "GROUP_SIZE", point.group_size)
        for form in ("parallel", "chunkwise"):
            got, found = run(form, point)
            assert_close(got, outputs, 1e-12, 1e-300)
            # A gradient that is a sum over others may vanish: their rounding is what is left.
            assert_close(found, gradients, 1e-11, 1e-14 * scale)


@pytest.mark.parametrize("form", ["parallel", "chunkwise"])
@settings(max_examples=60)
@given(points)
def test_gradients_agree_with_the_complex_step(form: str, point: Point) -> None:
    inputs, _, _ = point.arrays()
    if point.T == 0:
        return
    forward, backward = FORMS[form]
    options = point.options()
    if form == "chunkwise":
        options["chunk_size"] = point.chunk_size

    def bound(q: Array, k: Array, v: Array, i: Array, f: Array, state: Any = None) -> Any:
        return forward(q, k, v, i, f, state, **options)

    given_inputs = inputs if inputs[5] is not None else inputs[:5]
    report = gradcheck((bound, backward), *given_inputs, methods=["complex"], rng=point.seed)
    assert not report.failures, str(report)


@settings(max_examples=100)
@given(points, st.integers(0, 20))
def test_a_row_is_the_same_with_its_padding_cut_off(point: Point, seed: int) -> None:
    """Values of padding reach nothing, and each row ends in the state of its last real step."""
    inputs, dh, dstate = point.arrays()
    lengths = np.random.default_rng(seed).integers(0, point.T + 1, point.B)
    options = point.options() | {"lengths": lengths}
    for form, (forward, backward) in FORMS.items():
        h, last, cache = forward(*inputs, **options)
        *grads, dstate0 = backward(dh, cache, dstate)
        for row, length in enumerate(lengths):
            cut = np.s_[row : row + 1, :, :length]
            one = [array[cut] for array in inputs[:5]]
            state = _row(inputs[5], row)
            h_row, last_row, cache_row = forward(*one, state, **(options | {"lengths": None}))
            *grads_row, dstate0_row = backward(dh[cut], cache_row, _row(dstate, row))
            assert_close(h[cut], h_row, 1e-12, 1e-300)
            assert not h[row, :, length:].any()
            assert_close(_row(last, row), last_row, 1e-12, 1e-300)
            assert_close(_row(dstate0, row), dstate0_row, 1e-11, 1e-12)
            for name, grad, grad_row in zip("qkvif", grads, grads_row, strict=True):
                assert_close(grad[cut], grad_row, 1e-11, 1e-12)
                assert not grad[row, :, length:].any(), (form, name)


def _row(state: mLSTMState | None, row: int) -> Any:
    if state is None:
        return None
    n, m = (None if a is None else a[row : row + 1] for a in state[1:])
    return mLSTMState(state.C[row : row + 1], n, m)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("forget_gate", FORGET)
@pytest.mark.parametrize("i_pre", [-90.0, -120.0, 80.0, 1e4])
def test_extreme_input_gates_in_float32(form: str, forget_gate: str, i_pre: float) -> None:
    """Existing code has NaN gradients at −90: here they are those of float64."""
    point = Point(2, 2, 12, 3, 4, 5, 2**18, 1e-6, forget_gate, "exp", False, False, 1.0, 3)
    results = []
    for dtype in (np.float32, np.float64):
        (q, k, v, i, f, _), dh, _ = point.arrays(dtype)
        q, k = np.abs(q), np.abs(k)  # q·n does not cancel, which would magnify rounding
        i = (i_pre + i.astype(np.float32)).astype(dtype)  # the same number in both
        options = point.options() | ({"chunk_size": 5} if form == "chunkwise" else {})
        forward, backward = FORMS[form]
        h, last, cache = forward(q, k, v, i, -np.abs(f), **options)
        *grads, _ = backward(dh, cache)
        assert h.dtype == dtype
        results.append((h, *last, *grads))
    precision = 2e-4 if abs(i_pre) < 1e3 else 1e-2
    for single, double in zip(*results, strict=True):
        scale = np.abs(double).max()
        assert np.isfinite(single).all()
        assert np.abs(single - double).max() <= precision * scale + 1e-30


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("f_pre", [-1e3, 1e3, -1e30])
def test_extreme_forget_gates(form: str, dtype: Any, f_pre: float) -> None:
    point = Point(2, 2, 12, 3, 4, 4, 2**18, 1e-6, "sigmoid", "exp", True, False, 1.0, 4)
    (q, k, v, i, f, state), dh, dstate = point.arrays(dtype)
    f[:, :, 4:8] = f_pre  # a whole chunk
    forward, backward = FORMS[form]
    options = {"chunk_size": 4} if form == "chunkwise" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        h, last, cache = forward(q, k, v, i, f, state, **options)
        *grads, dstate0 = backward(dh, cache, dstate)
    for array in (h, *last, *grads, *dstate0):
        assert np.isfinite(array).all()
    if f_pre < 0:  # step 7 has forgotten all but itself
        alone, _, _ = forward(*(a[:, :, 7:] for a in (q, k, v, i, f)), **options)
        assert_close(h[:, :, 7:], alone, 20 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_orthogonal_query(form: str, eps: float) -> None:
    """q·n = 0 exactly: the floor e^−m is the denominator, and δ(q·n) is 0."""
    q, k = np.zeros((2, 1, 1, 3, 2))
    q[..., 0], k[..., 1] = 1.0, 1.0
    v = np.arange(1.0, 4.0).reshape(1, 1, 3, 1)
    i, f = np.full((1, 1, 3), 0.5), np.full((1, 1, 3), 2.0)
    forward, backward = FORMS[form]
    h, _, cache = forward(q, k, v, i, f, eps=eps)
    assert not h.any()
    dq, *_ = backward(np.ones_like(h), cache)
    assert np.isfinite(dq).all()
    assert (dq[..., 1] > 0).all()


def test_layers_take_any_form() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 9, 3))
    results = []
    for form in ("recurrent", "parallel", "chunkwise", "auto"):
        layer = mLSTM(3, 4, 2, form=form, chunk_size=4, rng=np.random.default_rng(1))
        y, state, cache = layer.forward(x)
        dy = np.random.default_rng(2).standard_normal(y.shape)
        dx, dstate0, grads = layer.backward(dy, cache)
        results.append((y, state, dx, dstate0, tuple(grads.values())))
    for result in results[1:]:
        assert_close(result, results[0], 1e-12, 1e-13)


@pytest.mark.parametrize("form", ["recurrent", "parallel", "chunkwise", "auto"])
def test_a_step_is_forward_with_one_step(form: str) -> None:
    rng = np.random.default_rng(0)
    layer = mLSTM(3, 4, 2, form=form, chunk_size=4, rng=rng)
    x = rng.standard_normal((2, 9, 3))
    whole, last, _ = layer.forward(x)
    state = None
    for t in range(9):
        y, state, _ = layer.forward(x[:, t : t + 1], state)
        assert_close(y[:, 0], whole[:, t], 1e-12)
    assert_close(state, last, 1e-12)


def test_the_cache_of_the_chunkwise_form_has_one_state_per_chunk() -> None:
    point = Point(1, 1, 64, 3, 4, 16, 2**18, 1e-6, "sigmoid", "exp", False, False, 1.0, 0)
    inputs, _, _ = point.arrays()
    _, _, cache = mlstm_chunkwise(*inputs, chunk_size=16)
    assert cache.before.C.shape == (1, 1, 4, 3, 4)


@pytest.mark.parametrize("sizes", [(1, 3), (5, 2)])
@pytest.mark.parametrize("input_gate", INPUT)
def test_threads_change_nothing(
    sizes: tuple[int, int], input_gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("threadpoolctl", reason="the extra 'threads' is not installed")
    point = Point(*sizes, 13, 3, 4, 4, 2**18, 1e-6, "sigmoid", input_gate, True, True, 1.0, 5)
    alone = run("chunkwise", point)
    monkeypatch.setattr(pieces, "WORTH_THREADS", 1)
    monkeypatch.setattr(pieces, "num_threads", lambda: 2)
    together = run("chunkwise", point)
    assert_close(together, alone, 1e-14)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("f_pre", [1.0, -1e9])
def test_what_comes_later_or_is_forgotten_may_overflow(form: str, f_pre: float) -> None:
    """q_i·k_j is infinite for a j that step i does not see: causality holds all the same."""
    point = Point(1, 1, 4, 2, 2, 4, 2**18, 1e-6, "sigmoid", "exp", False, False, 1.0, 6)
    (q, k, v, i, f, _), dh, _ = point.arrays(np.float32)
    f[:, :, 1] = f_pre
    seen, unseen = (slice(1, 4), 0) if f_pre < 0 else (slice(0, 3), 3)
    q[:, :, seen] *= 1e10
    k[:, :, unseen] = 1e30
    dh[:, :, unseen] = 0
    forward, backward = FORMS[form]
    h, _, cache = forward(q, k, v, i, f, eps=0.0)
    dv = backward(dh, cache)[2]
    alone = [array[:, :, seen] for array in (q, k, v, i, f)]
    expected, _, cache = mlstm_recurrent(*alone, eps=0.0)
    assert_close(h[:, :, seen], expected, 1e-5)
    expected_dv = mlstm_recurrent_backward(dh[:, :, seen], cache)[2]
    assert_close(dv[:, :, seen], expected_dv, 1e-5)


def test_threads_leave_blas_as_it_was() -> None:
    pytest.importorskip("threadpoolctl", reason="the extra 'threads' is not installed")
    before = threads.num_threads()
    barrier = Barrier(3)

    def outer(_: int) -> list[int]:
        barrier.wait()
        return threads.parallel_map(lambda n: n * n, [1, 2])

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(outer, range(3))) == [[1, 4]] * 3
    assert threads.num_threads() == before


def test_threads_keep_the_callers_error_state() -> None:
    with np.errstate(over="raise"):
        states = threads.parallel_map(lambda _: np.geterr()["over"], [1, 2])
    assert states == ["raise", "raise"]
