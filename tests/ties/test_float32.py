"""mLSTM in float32 where m is large: ``docs/derivations/numerics.md``."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.cells import mLSTMState
from numpy_xlstm.kernels import common, mlstm
from numpy_xlstm.numerics import Array
from tests.ties.test_mlstm import FORMS, Case

T = 300
SIZE: dict[str, Any] = {"B": 2, "NH": 2, "T": T, "DK": 3, "DV": 2, "forget_gate": "exp"}
U = 2.0**-24


def run(form: str, inputs: Any, state: Any, eps: float = 1e-6, forget: str = "exp") -> Any:
    return getattr(mlstm, f"mlstm_{form}")(*inputs, state, eps=eps, forget_gate=forget)[:2]


def numbers(m: float, f: float, scale: float = 0.0) -> tuple[list[Array], Any]:
    """Return float32 inputs with f̃ = f or random around f, and a state with m₀ = m.

    q, k and n are positive, so that q·n does not cancel.
    """
    x = Case(**SIZE, scale=scale).numbers(np.float32)
    q, k, v, i, random = x["inputs"]
    C, n, _ = x["state"]
    state = mLSTMState(C, np.abs(n), np.full((2, 2), m, np.float32))
    return [np.abs(q), np.abs(k), v, i, random + np.float32(f)], state


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("m", "f"), [(1e6, 0.7), (1e6, -0.9), (1e9, 30.0), (-1e6, 5.0)])
def test_a_memory_that_nothing_is_added_to_stays_as_it_is(form: str, m: float, f: float) -> None:
    """C and n do not drift, overflow or vanish, even if digits of log f + m₋ are lost."""
    (q, k, v, i, f_pre), state = numbers(m, f)
    i = i - np.float32(2e9)
    _, after = run(form, (q, k, v, i, f_pre), state)
    assert after.C.tobytes() == state.C.tobytes()
    assert after.n.tobytes() == state.n.tobytes()
    np.testing.assert_allclose(after.m, state.m.astype(float) + T * f, rtol=2 * U)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("eps", [0.0, 1e-6])
@pytest.mark.parametrize("size", [1, 37])
def test_one_call_is_the_call_in_pieces_while_m_grows(form: str, eps: float, size: int) -> None:
    inputs, state = numbers(1e6, 0.9, scale=1.0)
    h, whole = run(form, inputs, state, eps)
    for t in range(0, T, size):
        part, state = run(form, [a[:, :, t : t + size] for a in inputs], state, eps)
        expected = h[:, :, t : t + size]
        np.testing.assert_allclose(part, expected, rtol=0, atol=32 * U * np.abs(h).max())
    assert state.C.tobytes() == whole.C.tobytes()
    assert state.n.tobytes() == whole.n.tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_within_a_call_the_size_of_m_costs_nothing(form: str) -> None:
    """Adding 1e6 to m₀ and all ĩ changes no weight, although half a unit of m is 0.03."""
    rng = np.random.default_rng(0)
    f = rng.standard_normal((1, 1, T)).astype(np.float32)
    m = np.cumsum(f, axis=-1)
    i = np.round(16 * (60 + m + rng.standard_normal(m.shape))).astype(np.float32) / 16
    one, v = np.ones((1, 1, T, 1), np.float32), rng.uniform(-1, 1, (1, 1, T, 1)).astype(np.float32)
    found = []
    for shift in (0, 1_000_000):
        start = mLSTMState(one[:, :, 0, None], one[:, :, 0], np.full((1, 1), 60 + shift, "f"))
        h, _ = run(form, (one, one, v, i + np.float32(shift), f), start)
        found.append(h)
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=20 * U)
    assert np.ptp(found[0]) > 0.5


@pytest.mark.parametrize("form", FORMS)
def test_a_forget_gate_that_is_nearly_1_forgets_as_it_should(form: str) -> None:
    """log σ(14) = −8e-7 and a unit of m = −10 is 1e-6: m must be rounded once, not at each step."""
    zero = np.zeros((1, 1, T, 1), np.float32)
    start = mLSTMState(zero[:, :, :1] + 1, zero[:, :, 0] + 1, zero[:, :, 0, 0] - 10)
    f = zero[..., 0] + 14
    _, after = run(form, (zero, zero, zero, 2 * f - 100, f), start, forget="sigmoid")
    m = -10 - T * np.log1p(np.exp(-14.0))
    found = np.log(float(after.n.item())) + float(after.m.item())
    assert abs(found - m) <= np.spacing(np.float32(10))


@pytest.mark.parametrize("fast", [True, False])
def test_the_logs_of_many_gates_are_added_in_float64(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 2,000 steps that write nothing, C is the product of the forget gates."""
    if not fast:
        monkeypatch.setattr(common, "compiled", lambda dtype: False)
    zero = np.zeros((1, 1, 2000, 1), np.float32)
    f = np.random.default_rng(0).uniform(3.9, 4.1, (1, 1, 2000)).astype(np.float32)
    state = mLSTMState(zero[:, :, :1] + 1, None, None)
    _, after, _ = mlstm.mlstm_parallel(zero, zero, zero, f, f, state, input_gate="sigmoid")
    product = np.exp(-np.log1p(np.exp(-f.astype(np.longdouble))).sum())
    np.testing.assert_allclose(after.C.item(), float(product), rtol=8 * U)


def test_what_the_recurrent_form_keeps_has_all_digits_however_little_it_is() -> None:
    """f′ = e^(log f + m₋ − m) is rounded once, and not its exponent."""
    i = np.random.default_rng(0).uniform(20, 80, (1, 50, 1)).astype(np.float32)
    zero = np.zeros((1, 50, 1, 1), np.float32)
    f = zero[..., 0] + 1
    state = mLSTMState(zero + 1, f, zero[..., 0, 0])
    _, after, _ = mlstm.mlstm_recurrent(zero, zero, zero, i, f, state)
    exact = np.exp(-np.log1p(np.exp(-1)) - i.astype(np.float64))
    np.testing.assert_allclose(after.C.ravel(), exact.ravel(), rtol=4 * U)


@pytest.mark.parametrize("form", ["parallel", "recurrent"])
def test_a_long_chunk_keeps_the_digits_of_its_decay(form: str) -> None:
    """The logs of 2,000 forget gates sum to −6; each rounding of the sum would be 2e-7 of it."""
    shape = 1, 1, 2000, 1
    rng = np.random.default_rng(0)
    f = rng.uniform(-0.006, 0, shape[:3]).astype(np.float32)
    inputs = [np.ones(shape, np.float32), *np.zeros((2, *shape), np.float32), f - 1000, f]
    start = mLSTMState(*(np.ones((1, 1, *rest), np.float32) for rest in ((1, 1), (1,), ())))
    h, after = run(form, inputs, start)
    wide = [array.astype(float) for array in inputs]
    exact, exact_after = run(form, wide, mLSTMState(*(np.asarray(a, float) for a in start)))
    np.testing.assert_allclose(h, exact, rtol=1e-5)
    decayed, exact_decayed = (s.C * np.exp(s.m) for s in (after, exact_after))
    np.testing.assert_allclose(decayed, exact_decayed, rtol=1e-5)
