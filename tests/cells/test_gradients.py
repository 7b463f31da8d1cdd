"""Every gradient of every cell against independent references, over random shapes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import gradcheck, mLSTMCell
from numpy_xlstm.numerics import Array
from tests.samples import times
from tests.variants import VARIANTS, Sizes, Variant, make, sizes, variants


@given(variant=variants, s=sizes, step=st.booleans())
def test_complex_step_and_adjoint_agree_to_1e_12(variant: Variant, s: Sizes, step: bool) -> None:
    case = make(variant, s, step=step)
    report = gradcheck(case.layer, *case.inputs, rng=s.seed, max_entries=12)
    assert not report.failures, str(report)
    assert {row.tolerance for row in report.rows if row.method == "complex step"} == {1e-12}


class Real:
    """A layer whose forward accepts no complex numbers."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.params, self.backward = layer, layer.params, layer.backward

    def with_params(self, params: dict[str, Array]) -> "Real":
        return Real(self.layer.with_params(params))

    def forward(self, x: Array, state: Any = None) -> Any:
        if np.iscomplexobj(x):
            raise TypeError("expected real numbers")
        return self.layer.forward(x, state)


@times(0.2)
@given(variant=variants, s=sizes, step=st.booleans())
def test_finite_differences_agree_to_1e_7(variant: Variant, s: Sizes, step: bool) -> None:
    case = make(variant, s, step=step)
    report = gradcheck(Real(case.layer), *case.inputs, rng=s.seed, max_entries=12, directions=4)
    assert not report.failures, str(report)
    tolerances = {row.tolerance for row in report.rows if row.method == "finite differences"}
    assert tolerances == {1e-7}


@pytest.mark.parametrize("eps", [0, 0.3])
@pytest.mark.parametrize("b_i", [0, -9])
def test_a_normaliser_takes_the_mean_from_what_is_read(eps: float, b_i: float) -> None:
    """δq and δk of a last step have one term each, as in the derivation of mLSTM."""
    rng = np.random.default_rng(0)
    cell, x, dh = mLSTMCell(3, 32, num_heads=16, eps=eps), *rng.standard_normal((2, 1, 32))
    cell = cell.with_params({n: rng.standard_normal(a.shape) for n, a in cell.params.items()})
    cell.params["b_i"][...] += b_i
    x, state = x[:, :3], cell.forward(x[:, 3:6])[1]
    k = cell.forward(x, state)[2]
    grads = cell.backward(dh, k)[2]
    sign = (np.sign(k.qn) * (abs(k.qn) >= np.exp(-k.m)))[..., None]
    assert set(sign.ravel()) == ({0} if b_i else {-1, 0, 1})
    dh_tilde, den = (dh * k.o).reshape(k.h_tilde.shape), k.den[..., None]
    read = k.C - (sign * k.n)[..., None] * k.h_tilde[..., None, :]
    dq = np.einsum("bhkv,bhv->bhk", read, dh_tilde) / den
    compared = (dh_tilde * (k.v - sign * k.h_tilde)).sum(axis=-1, keepdims=True)
    dk = k.i[..., None] * k.q / den * compared
    assert np.allclose(grads["b_q"], dq.ravel(), rtol=1e-12, atol=1e-14)
    assert np.allclose(grads["b_k"], dk.ravel(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_an_explicit_zero_state_has_gradients_of_its_own(variant: Variant) -> None:
    """A learned state starts at zero, including m = 0, where its gradient is not zero."""
    case = make(variant, Sizes(2, 3, 2, 2, 1, 2, False, 1e-6, 3))
    zeros = case.layer.init_state(2)
    zeros = type(zeros)(*(None if a is None else np.zeros_like(a) for a in zeros))
    report = gradcheck(case.layer, case.x, zeros, rng=1, max_entries=8, directions=2)
    assert report.passed, str(report)
    _, dstate0, _ = case.layer.backward(case.cotangents()[0], case.layer.forward(case.x, zeros)[2])
    assert np.abs(dstate0.C if variant.is_mlstm else dstate0.c).min() > 0


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_empty_state_as_an_argument_is_the_default(variant: Variant) -> None:
    case = make(variant, Sizes(2, 3, 2, 2, 1, 2, False, 1e-6, 4))
    empty = case.layer.init_state(2)
    report = gradcheck(case.layer, case.x, empty, rng=1, max_entries=8, directions=2)
    assert report.passed, str(report)
    y, state, _ = case.layer.forward(case.x)
    y_empty, state_empty, _ = case.layer.forward(case.x, empty)
    assert np.array_equal(y, y_empty)
    for a, b in zip(state, state_empty, strict=True):
        assert np.array_equal(a, b)
