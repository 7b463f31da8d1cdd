"""Every form and variant of mLSTM equals the unrolled cell in values, states and gradients."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from numpy_xlstm.cells import mLSTMCell, mLSTMState
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.kernels import mlstm
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, tree_map
from tests.samples import mostly, times

FORMS = ("recurrent", "parallel", "chunkwise")
KINDS = ("sigmoid", "exp")
NAMES = ("dq", "dk", "dv", "di", "df")


@dataclass(frozen=True)
class Case:
    B: int = 2
    NH: int = 2
    T: int = 7
    DK: int = 3
    DV: int = 2
    chunk_size: int = 3
    eps: float = 1e-6
    forget_gate: str = "sigmoid"
    input_gate: str = "exp"
    with_state: bool = True
    with_lengths: bool = False
    scale: float = 1.0
    seed: int = 0

    @property
    def options(self) -> dict[str, Any]:
        return {"eps": self.eps, "forget_gate": self.forget_gate, "input_gate": self.input_gate}

    def state(self, rng: np.random.Generator, dtype: Any, B: int | None = None) -> mLSTMState:
        C = rng.standard_normal((B or self.B, self.NH, self.DK, self.DV)).astype(dtype)
        if self.input_gate == "sigmoid":
            return mLSTMState(C, None, None)
        n, m = rng.standard_normal(C.shape[:3]), rng.standard_normal(C.shape[:2])
        return mLSTMState(C, n.astype(dtype), m.astype(dtype))

    def numbers(self, dtype: Any = np.float64) -> dict[str, Any]:
        """Inputs, state and lengths, and cotangents of the output and of the final state."""
        rng = np.random.default_rng(self.seed)
        where = (self.B, self.NH, self.T)
        q, k = rng.standard_normal((2, *where, self.DK)).astype(dtype)
        v, dh = rng.standard_normal((2, *where, self.DV)).astype(dtype)
        i, f = (self.scale * rng.standard_normal((2, *where))).astype(dtype)
        state = self.state(rng, dtype) if self.with_state else None
        lengths = rng.integers(0, self.T + 1, self.B) if self.with_lengths else None
        dstate = self.state(rng, dtype)
        return {"inputs": (q, k, v, i, f), "state": state, "lengths": lengths} | {
            "dh": dh,
            "dstate": dstate,
        }


cases = st.builds(
    Case,
    B=mostly(3, "batch"),
    NH=mostly(2, "heads"),
    T=st.integers(0, 13),
    DK=mostly(4, "head"),
    DV=mostly(4, "head"),
    chunk_size=st.integers(1, 15),
    eps=st.sampled_from([0.0, 1e-6, 0.3]),
    forget_gate=st.sampled_from(KINDS),
    input_gate=st.sampled_from(KINDS),
    with_state=st.booleans(),
    with_lengths=st.booleans(),
    scale=st.sampled_from([0.3, 1.0, 4.0]),
    seed=st.integers(0, 2**32 - 1),
)


def pair(form: str) -> tuple[Any, Any]:
    """Return the forward and the backward of a form."""
    return getattr(mlstm, f"mlstm_{form}"), getattr(mlstm, f"mlstm_{form}_backward")


def only_m(like: Any) -> Any:
    """Return cotangents of 0, except 1 for m."""
    return tree_map(np.zeros_like, like)._replace(m=np.ones_like(like.m))


def bare_cell(case: Case, dtype: Any) -> mLSTMCell:
    """Make a cell whose x is the concatenation of q, k, v, ĩ and f̃, with an output gate of 1."""
    NH, DK, DV = case.NH, case.DK, case.DV
    widths = {"q": NH * DK, "k": NH * DK, "v": NH * DV, "i": NH, "f": NH}
    D = sum(widths.values())
    cell = mLSTMCell(D, NH * DV, num_heads=NH, qk_dim=NH * DK, dtype=dtype, **case.options)
    rows = np.split(np.eye(D, dtype=dtype), np.cumsum([*widths.values()])[:-1])
    for array in cell.params.values():
        array[...] = 0
    for g, part in zip(widths, rows, strict=True):
        cell.params[f"W_{g}"][...] = part
    cell.params["b_o"][...] = 100
    return cell


def by_cell(case: Case, dtype: Any = np.float64) -> tuple[dict[str, Any], float]:
    """Return outputs, final state and gradients of the unrolled cell by head, and cancellation.

    The cancellation is the largest Σ|q_d n_d| divided by the denominator. Rounding errors grow with
    it in h, and with its square in gradients: see ``docs/derivations/mlstm-forms.md``.
    """
    x, cell = case.numbers(dtype), bare_cell(case, dtype)
    B, NH, T = case.B, case.NH, case.T
    parts = [a.swapaxes(1, 2).reshape(B, T, a[0, :, :1].size * T // max(T, 1)) for a in x["inputs"]]
    if T == 0:
        parts = [np.zeros((B, 0, NH * n), dtype) for n in (case.DK, case.DK, case.DV, 1, 1)]
    ys, last, cache = unroll(cell, np.concatenate(parts, -1), x["state"], lengths=x["lengths"])
    dys = x["dh"].swapaxes(1, 2).reshape(ys.shape)
    dxs, dstate0, _ = unroll_backward(dys, cache, x["dstate"])
    grads = np.split(dxs, np.cumsum([part.shape[-1] for part in parts])[:-1], axis=-1)
    by_head = [
        grad.reshape(B, T, NH, like[0, 0, 0].size if T else 0).swapaxes(1, 2).reshape(like.shape)
        for grad, like in zip(grads, x["inputs"], strict=True)
    ]
    h = ys.reshape(B, T, NH, case.DV).swapaxes(1, 2)
    ratios = [((np.abs(c.q * c.n)).sum(-1) / np.abs(c.den)).max() for c in cache.steps]
    return _named(h, last, (*by_head, dstate0)), float(max(ratios, default=0))


def by_form(form: str, case: Case, dtype: Any = np.float64) -> dict[str, Any]:
    x = case.numbers(dtype)
    options = case.options | ({"chunk_size": case.chunk_size} if form == "chunkwise" else {})
    run, back = pair(form)
    h, last, cache = run(*x["inputs"], x["state"], lengths=x["lengths"], **options)
    assert all(a.base is None or a.base.size == a.size for _, a in leaves("", last))  # copies
    return _named(h, last, back(x["dh"], cache, x["dstate"]))


def _named(h: Array, last: mLSTMState, grads: Any) -> dict[str, Any]:
    states = {**dict(zip("Cnm", last, strict=True))}
    states |= dict(zip(("dC0", "dn0", "dm0"), grads[5], strict=True))
    return {"h": h, **states, **dict(zip(NAMES, grads[:5], strict=True))}


def assert_tied(
    got: dict[str, Any],
    expected: dict[str, Any],
    cancels: float,
    values: float = 1e-12,
    gradients: float = 1e-11,
) -> None:
    """Compare each tensor relative to its largest entry, with a larger tolerance if digits cancel.

    A gradient that may cancel to 0 is compared relative to the largest entry of it and of δv. An
    example is T = 1 from the empty state, where h = ±v for any q, k and i. If keys have one entry,
    h does not depend on q: δq cancels to 0, and is compared relative to h.
    """
    for name, want in expected.items():
        have = got[name]
        if want is None:
            assert have is None
            continue
        assert have.shape == want.shape
        assert have.dtype == want.dtype
        assert (np.isneginf(have.real) == np.isneginf(want.real)).all(), name
        finite = np.isfinite(want)
        yardsticks = (want[finite], expected["dv"] if name.startswith("d") else want[finite])
        yardsticks += (expected["h"],) if name == "dq" and want.shape[-1] == 1 else ()
        scale = max(float(np.abs(array).max(initial=0)) for array in yardsticks)
        error = np.abs(have[finite] - want[finite]).max(initial=0)
        more = max(1, cancels / 300)
        room = gradients * more**2 if name.startswith("d") else values * more
        assert error <= room * scale + np.finfo(want.dtype).tiny, (name, error / scale)


@times(2)
@given(cases)
@example(Case(T=0))
@example(Case(T=0, with_lengths=True, with_state=False))
@example(Case(T=1, with_state=False, eps=0.0))
@example(Case(T=6))
@example(Case(T=6, with_lengths=True))
def test_forms_are_the_cell(case: Case) -> None:
    expected, cancels = by_cell(case)
    for form in FORMS:
        assert_tied(by_form(form, case), expected, cancels)


@given(cases, st.sampled_from([50.0, 300.0]))
def test_extreme_gates(case: Case, scale: float) -> None:
    assume(case.input_gate == "exp" or case.forget_gate == "sigmoid")  # else C overflows
    case = Case(**(vars(case) | {"scale": scale}))
    expected, cancels = by_cell(case)
    for form in FORMS:
        assert_tied(by_form(form, case), expected, cancels)


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
@times(0.4)
@given(case=cases)
def test_other_precisions(case: Case, dtype: Any) -> None:
    ulp = float(np.finfo(dtype).eps / np.finfo(np.float64).eps)
    expected, cancels = by_cell(case, dtype)
    for form in FORMS:
        assert_tied(by_form(form, case, dtype), expected, cancels, 1e-12 * ulp, 1e-11 * ulp)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("T", [4, 8, 16, 32])
@pytest.mark.parametrize(("input_gate", "forget_gate"), [*product(KINDS, KINDS)])
def test_strides_of_a_vector_register(
    input_gate: str, forget_gate: str, T: int, dtype: Any
) -> None:
    """With one row of one unit, steps have a stride of T, at which vectorised loops had bugs."""
    case = Case(1, 1, T, 1, 1, eps=0.3, input_gate=input_gate, forget_gate=forget_gate, scale=0.5)
    ulp = float(np.finfo(dtype).eps / np.finfo(np.float64).eps)
    expected, cancels = by_cell(case, dtype)
    for form in FORMS:
        assert_tied(by_form(form, case, dtype), expected, cancels, 1e-12 * ulp, 1e-11 * ulp)
