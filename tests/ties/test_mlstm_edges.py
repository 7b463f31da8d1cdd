"""Edge cases of mLSTM: large |q·n|, ties, near ties, caches, threads."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.cells import mLSTMState
from numpy_xlstm.kernels import common, compiled, mlstm
from numpy_xlstm.kernels.mlstm import forms, step
from numpy_xlstm.layers import SequenceLayer, mLSTM
from numpy_xlstm.numerics import Array, threads
from numpy_xlstm.numerics.threads import parallel_map
from numpy_xlstm.trees import leaves
from tests.samples import random_state
from tests.ties.test_mlstm import FORMS, Case, assert_tied, by_cell, by_form, only_m, pair

FLOATS = (np.float32, np.float64)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("dtype", "large"), [(np.float64, [0, 300, 300]), (np.float32, [0, 50, 0])]
)
def test_far_below_any_floor_a_ratio_is_exact(form: str, dtype: Any, large: list[int]) -> None:
    q = np.zeros((1, 1, 3, 2), dtype)
    q[..., 0], q[0, 0, 2] = 1, [0, 2]
    v, i, f = np.ones_like(q), np.zeros((1, 1, 3), dtype), np.array([[large]], dtype)
    run, back = pair(form)
    h, _, cache = run(q, q, v, i, f, eps=0.0, forget_gate="exp")
    assert (h[0, 0, 2] == 1).all()
    dh = np.random.default_rng(0).standard_normal(h.shape).astype(dtype)
    assert all(np.isfinite(array).all() for _, array in leaves("", back(dh, cache)))


@dataclass(frozen=True)
class Opening(Case):
    """An mLSTM whose memory is 0 before each of the first steps; the second row has no step."""

    forget_gate: str = "exp"
    input_gate: str = "sigmoid"
    f: float = -1.0
    steps: int = 1
    empty: str = "i"  # what leaves the memory empty: a closed input gate, or keys or values of 0
    m: float | None = None

    def numbers(self, dtype: Any = np.float64) -> dict[str, Any]:
        numbers = super().numbers(dtype) | {"lengths": np.array([self.T, 0])}
        *_, f = numbers["inputs"]
        nothing = numbers["inputs"]["qkvif".index(self.empty)]
        nothing[:, :, : self.steps - 1] = -1e4 if self.empty == "i" else 0
        f[..., : self.steps] = self.f
        if self.with_state:
            numbers["state"].C[...] = 0
        if self.m is not None:
            numbers["state"].m[...] = self.m
        return numbers


@pytest.mark.parametrize("form", [*FORMS, "cell"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(("steps", "empty"), [(1, "i"), (5, "i"), (5, "k"), (5, "v")])
@pytest.mark.parametrize("f", [300.0, 800.0, 1e30])
def test_a_memory_of_0_stays_0_however_large_the_forget_gate(
    form: str, dtype: Any, with_state: bool, steps: int, empty: str, f: float
) -> None:
    """The results are those of a small forget gate, up to gradients that exceed the format."""
    if form == "cell" and f == 300 and dtype == np.float64 and steps > 1:
        pytest.skip("in the unrolled cell, the gradient of the memory grows by e^300 at each step")
    results = list[dict[str, Any]]()
    for gate in (f, -1.0):
        case = Opening(with_state=with_state, f=gate, steps=steps, empty=empty)
        result = by_cell(case, dtype)[0] if form == "cell" else by_form(form, case, dtype)
        assert not np.isnan(result.pop("dC0")).any()
        assert not (gate > 300) or not result["df"][:, :, :steps].any()
        free = "dv" if empty == "v" else "dk"
        result[free] = result[free][:, :, steps - 1 :]
        results.append(result)
    near = 1e-12 * np.finfo(dtype).eps / np.finfo(float).eps
    assert_tied(results[0], results[1], 0, near, 10 * near)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("m", [-np.inf, 0.0, 1000.0])
def test_the_stabiliser_of_a_memory_of_0_counts(form: str, dtype: Any, m: float) -> None:
    case = Opening(input_gate="exp", f=800.0, m=m)
    near = 1e-12 * np.finfo(dtype).eps / np.finfo(float).eps
    assert_tied(by_form(form, case, dtype), *by_cell(case, dtype), near, 10 * near)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("dtype", "f"), [(np.float64, 40.0), (np.float32, 17.5)])
def test_a_near_tie_goes_to_the_winner(form: str, dtype: Any, f: float) -> None:
    zero = np.zeros((1, 1, 2, 1), dtype)
    run, back = pair(form)
    h, state, cache = run(zero, zero, zero, zero[..., 0], np.full((1, 1, 2), f, dtype))
    di = back(np.zeros_like(h), cache, only_m(state))[3]
    assert di.ravel().tolist() == [0, 1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_state", [False, True])
def test_a_tie_goes_to_the_oldest(form: str, with_state: bool) -> None:
    zero = np.zeros((1, 1, 3, 1))
    before = mLSTMState(np.ones((1, 1, 1, 1)), np.ones((1, 1, 1)), np.zeros((1, 1)))
    run, back = pair(form)
    state = before if with_state else None
    h, after, cache = run(*[zero] * 3, zero[..., 0], zero[..., 0], state, forget_gate="exp")
    *_, di, df, dstate0 = back(np.zeros_like(h), cache, only_m(after))
    assert di.ravel().tolist() == ([0, 0, 0] if with_state else [1, 0, 0])
    assert df.ravel().tolist() == ([1, 1, 1] if with_state else [0, 1, 1])
    assert dstate0.m.item() == with_state


@pytest.mark.parametrize("form", FORMS)
def test_where_both_sides_of_the_denominator_are_equal_it_is_that_of_q_and_n(form: str) -> None:
    one = np.ones((1, 1, 1, 1))
    run, back = pair(form)
    h, _, cache = run(one, one, 3 * one, 0 * one[..., 0], 0 * one[..., 0], eps=0.0)
    dq, dk, *_ = back(2 * one, cache)
    assert (h.item(), dq.item(), dk.item()) == (3, 0, 0)  # h = 3 qk/|qk|, and not 3 qk


@pytest.mark.parametrize(
    ("form", "steps"), [("parallel", 7), ("chunkwise", 3), ("auto", 3), ("recurrent", None)]
)
def test_the_form_that_is_asked_for_is_taken(form: str, steps: int | None) -> None:
    layer, q, i = (
        mLSTM(4, 4, num_heads=2, form=form, chunk_size=3),
        np.ones((1, 7, 4)),
        np.ones((1, 7, 2)),
    )
    _, _, cache = forms.forward(q, q, q, i, i, layer.init_state(1), **layer.options)
    w = getattr(cache.form, "w", None)
    assert (w if w is None else w.shape[-1]) == steps


def test_threads_share_the_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(NH=2, T=13, with_lengths=True)
    alone = by_form("chunkwise", case)
    numbers: list[int] = []

    def count(work: Any, these: Any) -> Any:
        numbers.append(len(these))
        return parallel_map(work, these)

    monkeypatch.setattr(common, "WORTH_THREADS", 0)
    for module in (common, threads):
        monkeypatch.setattr(module, "num_threads", lambda: 2)
    monkeypatch.setattr(common, "parallel_map", count)
    assert_tied(by_form("chunkwise", case), alone, 0, 1e-13, 1e-13)
    assert numbers == [case.B * case.NH if compiled() else 2] * 4


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("m", [-2000, -50, 0, 50, 2000])
def test_a_decode_step_is_a_step_however_large_the_memory(
    m: int, dtype: Any, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a query of 0, and without eps."""
    if not fast:
        monkeypatch.setattr(step, "compiled", lambda dtype: False)
    case = Case(T=1, DK=3, DV=2, eps=0.0)
    numbers = case.numbers(dtype)
    (q, k, v, i, f), state = numbers["inputs"], numbers["state"]
    q[0, 0], state = 0, state._replace(m=state.m + dtype(m))
    expected, after, _ = mlstm.mlstm_recurrent(q, k, v, i, f, state, eps=0.0)
    q, k, v, i, f = (array[:, :, 0] for array in (q, k, v, i, f))
    h, found = step.mlstm_step(q, k, v, i, f, state, 0.0)
    near = 1e3 * np.finfo(dtype).eps
    np.testing.assert_allclose(h.reshape(v.shape), expected[:, :, 0], rtol=near)
    for (_, a), (_, b) in zip(leaves("", found), leaves("", after), strict=True):
        np.testing.assert_allclose(a, b, rtol=near)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("form", ["chunkwise", "parallel"])
@pytest.mark.parametrize(("query", "key"), [(0, 3), (3, 0)])
def test_products_that_overflow_where_they_have_no_weight(
    form: str, query: int, key: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of 1e200 does not affect a query of 1e200 before it, or after it was forgotten."""
    if not fast:
        monkeypatch.setattr(common, "compiled", lambda dtype: False)
    q, k, v, dh = np.random.default_rng(0).standard_normal((4, 1, 1, 4, 2))
    q[0, 0, query] *= 1e200
    k[0, 0, key] *= 1e200
    i, f = np.zeros((2, 1, 1, 4))
    f[..., 1] = -2000
    expected = mlstm.mlstm_recurrent(q, k, v, i, f)
    run, back = pair(form)
    found = run(q, k, v, i, f)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    grads = mlstm.mlstm_recurrent_backward(dh, expected[2])
    same = back(dh, found[2])
    for a, b in zip(same[:5], grads[:5], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max())


@pytest.mark.parametrize("form", FORMS)
def test_a_clipped_floor_does_not_depend_on_m(form: str) -> None:
    """With C = 3·tiny, n = 0 and m = 800, h is C divided by the clipped floor, which is tiny."""
    tiny = np.finfo(float).tiny
    one, zero = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1))
    state = mLSTMState(3 * tiny * one, zero, zero[..., 0] + 800)
    run, back = pair(form)
    options = {"eps": 0.0, "forget_gate": "exp"}
    h, _, cache = run(one, one, one, zero - 1000, zero, state, **options)
    *_, df, dstate0 = back(2 * one, cache)
    np.testing.assert_allclose(h, 3, rtol=1e-12)
    np.testing.assert_allclose([df.item(), dstate0.m.item()], 0, atol=1e-12)
    np.testing.assert_allclose(dstate0.C.item() * tiny, 2, rtol=1e-12)


def first_order_bound(
    q: Array, k: Array, v: Array, i: Array, f: Array, h: Array, eps: float, L: int
) -> tuple[Array, Array]:
    """Return the bounds of ``mlstm-forms.md`` for the error of h (T,), and for that between forms.

    They are for one row and head and an exponential forget gate.
    """
    T, DK = q.shape
    u = 2.0**-53
    m = np.empty(T + 1)
    m[0] = -np.inf
    for t in range(T):
        m[t + 1] = max(f[t] + m[t], i[t])
    A = f + m[:-1]
    log_f, log_i, of_m = A - m[1:], i - m[1:], np.spacing(np.abs(A)) / (2 * u)
    of_m[0] = log_f[0] = 0
    k = k / np.sqrt(DK)
    cost, apart, log_w = np.zeros((3, T, T))
    for j in range(T):
        log_w[j:, j] = log_i[j] + np.concatenate([[0], np.cumsum(log_f[j + 1 :])])
        steps = np.arange(T - j) + DK + 8
        apart[j:, j] = u * (4 * steps + 2 * L + (L + 1) * np.abs(log_w[j:, j]))
        gates = np.abs(log_f) + of_m
        cost[j:, j] = apart[j:, j] + u * np.concatenate([[0], np.cumsum(gates[j + 1 :])])
    w = np.tril(np.exp(log_w))
    qn = ((q @ k.T) * w).sum(1)
    floor = np.exp(-m[1:].clip(-708, 708))
    den = np.maximum(np.abs(qn), floor) + eps
    by_m = (eps + np.where(np.abs(qn) < floor, floor, 0)) / den
    read = w * (np.abs(q) @ np.abs(k).T) / den[:, None]
    size = np.abs(v).max() + np.abs(h).max(-1)
    of_floor = np.cumsum(np.spacing(np.abs(m[1:]))) * by_m * np.abs(h).max(-1)
    tiny = 100 * np.finfo(float).tiny  # where the floor is clipped
    return (read * cost).sum(1) * size + of_floor + tiny, 2 * (read * apart).sum(1) * size + tiny


def exact(q: Array, k: Array, v: Array, i: Array, f: Array, eps: float) -> Array:
    """Compute outputs in 50 digits from C and n without a stabiliser."""
    mp = pytest.importorskip("mpmath").mp.clone()
    mp.dps = 50
    (T, DK), DV = q.shape, v.shape[1]
    C, n, m = [[mp.mpf(0)] * DV for _ in range(DK)], [mp.mpf(0)] * DK, mp.mpf("-inf")
    h = np.empty((T, DV))
    for t in range(T):
        m = max(m + mp.mpf(f[t]), mp.mpf(i[t]))
        gate_f, gate_i = mp.exp(mp.mpf(f[t])), mp.exp(mp.mpf(i[t])) / mp.sqrt(DK)
        for a in range(DK):
            key = gate_i * mp.mpf(k[t, a])
            C[a] = [gate_f * c + key * mp.mpf(x) for c, x in zip(C[a], v[t], strict=True)]
            n[a] = gate_f * n[a] + key
        query = [mp.mpf(x) for x in q[t]]
        den = max(abs(mp.fdot(query, n)), 1) + mp.mpf(eps) * mp.exp(m)
        h[t] = [float(mp.fdot(query, column) / den) for column in zip(*C, strict=True)]
    return h


def test_the_exponential_forget_gate_is_as_well_conditioned_as_is_said(trials: int) -> None:
    """For T = 200, forms agree with each other, and some with 50 digits, within the bounds."""
    apart = []
    for seed in range(50 * trials):
        rng = np.random.default_rng(seed)
        q, k = rng.standard_normal((2, 200, 3))
        v = rng.standard_normal((200, 2))
        size, drift = rng.choice([1, 3, 10, 100]), rng.choice([0, 0, 1, 5])
        i, f = size * rng.standard_normal((2, 200))
        f, eps = f + drift, float(rng.choice([0.0, 1e-6]))
        i = i + np.cumsum(f) * (drift > 0)
        inputs = [array[None, None] for array in (q, k, v, i, f)]
        found = {}
        for form in FORMS:
            run, _ = pair(form)
            found[form] = run(*inputs, eps=eps, forget_gate="exp")[0][0, 0]
        h = found["recurrent"]
        reference = exact(q, k, v, i, f, eps) if seed % 10 == 0 else None
        for form, L in (("chunkwise", 64), ("parallel", 200)):
            of_gates, of_forms = first_order_bound(q, k, v, i, f, h, eps, L)
            assert (np.abs(found[form] - h).max(-1) <= of_forms).all()
            if reference is not None:
                for got in (h, found[form]):
                    assert (np.abs(got - reference).max(-1) <= of_gates).all()
        apart.append(np.abs(found["chunkwise"] - h).max() / np.abs(h).max())
    assert max(apart) <= 1e-11
    assert np.mean(np.array(apart) <= 1e-12) >= 0.9


def test_dropping_the_gradient_of_the_denominator_costs_as_much_as_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The table of ``mlstm-forms.md``: medians over 40 draws, before and under RMS norms."""
    run, back = pair("parallel")
    exact = forms.denominator_and_parts

    def held(*arguments: Any) -> tuple[Any, ...]:
        den, _, floor = exact(*arguments)
        return den, 0, floor

    errors = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        q, k, v, dy = rng.standard_normal((4, 1, 4, 32, 16))
        i, f = rng.standard_normal((2, 1, 4, 32))
        h, _, cache = run(q, k, v, i, f + 3, eps=0.0)
        qn, m, _ = cache.kept.normaliser
        assert np.mean(qn**2 >= np.exp(-2 * m)) > 0.6
        scales = [1 / np.sqrt((h**2).mean(-1, keepdims=True) + eps) for eps in (1e-3, 1e-6, 0)]
        normed = [r * (dy - h * r**2 * (h * dy).mean(-1, keepdims=True)) for r in scales]
        for dh in (dy, *normed):
            full = back(dh, cache)[:5]
            with monkeypatch.context() as patch:
                patch.setattr(forms, "denominator_and_parts", held)
                pairs = zip(full, back(dh, cache)[:5], strict=True)
                errors.append([np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in pairs])
    page = (Path(__file__).parents[2] / "docs/derivations/mlstm-forms.md").read_text("utf-8")
    table = page.partition("| after $")[2].splitlines()[2:6]
    stated = [[float(number) for number in row.split("|")[2:7]] for row in table]
    found = np.median(np.reshape(errors, (40, 4, 5)), axis=0)
    np.testing.assert_allclose(found, stated, rtol=0.05, atol=1e-14)


NO_STEP = """
import numpy as np
from numpy_xlstm import mlstm_recurrent, mlstm_recurrent_backward
for _ in range(200):
    shapes = [(1, 2, 0, 6)] * 3 + [(1, 2, 0)] * 2
    h, _, cache = mlstm_recurrent(*(np.zeros(shape, np.clongdouble) for shape in shapes))
    mlstm_recurrent_backward(h, cache)
    others = [np.empty(size, np.uint8) for size in range(1, 1000, 37)]
"""


def test_a_backward_without_steps_writes_nothing() -> None:
    """For such arrays, ``np.einsum`` of NumPy 2.4 writes a number next to the result."""
    subprocess.run([sys.executable, "-c", NO_STEP], check=True, timeout=120)


@pytest.mark.parametrize("input_gate", ["exp", "sigmoid"])
@pytest.mark.parametrize("forget_gate", ["exp", "sigmoid"])
def test_the_recurrent_form_over_several_chunks_is_the_unrolled_cell(
    input_gate: str, forget_gate: str
) -> None:
    """Its backward computes chunks of 64 steps; 130 is no multiple, and rows end in each chunk."""
    rng = np.random.default_rng(0)
    gates: Any = {"input_gate": input_gate, "forget_gate": forget_gate}
    layer = mLSTM(3, 4, num_heads=2, qk_dim=6, form="recurrent", rng=rng, **gates)
    for name, array in layer.params.items():
        array[...] = rng.uniform(-0.5, 0.5, array.shape) - (name == "b_f")
    unrolled, lengths = SequenceLayer(layer.cell), np.array([130, 65, 64, 0])
    x, dy = rng.standard_normal((4, 130, 3)), rng.standard_normal((4, 130, 4))
    state, dstate = (random_state(layer.init_state(4), rng) for _ in range(2))
    results = []
    for each in (layer, unrolled):
        y, after, cache = each.forward(x, state, lengths=lengths)
        results.append((y, after, *each.backward(dy, cache, dstate)))
    found, expected = (dict(leaves("", tree)) for tree in results)
    assert found.keys() == expected.keys()
    for name, want in expected.items():
        atol = 1e-11 * abs(want).max()
        np.testing.assert_allclose(found[name], want, rtol=0, atol=atol, err_msg=name)
