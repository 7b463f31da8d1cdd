"""The float64 forwards against the plain equations in 50 digits, for T = 50.

With ordinary gates the error is a few roundings, at most 1e-13. With pre-activations up to ±300,
the exponents log f + m − m′ are differences of numbers as large as 300·T, each rounded to half a
unit in the last place. The error of an exponent is the relative error of its power.
See "What a float stabiliser costs" in docs/derivations/stabiliser-practice.md.
"""

from typing import Any

import numpy as np
import pytest
from mpmath import exp, matrix, mpf

from numpy_xlstm import sLSTM
from tests.cells import plain
from tests.variants import VARIANTS, Case, Sizes, Variant, make

T = 50
ORDINARY = 1e-13
EXTREME_PREACTIVATION = 300
EXPONENT_BOUND = float(np.spacing(EXTREME_PREACTIVATION * float(T)))  # 1.8e-12
"""One unit in the last place of the largest exponent."""


def _case(variant: Variant, seed: int, extreme: bool) -> Case:
    case = make(variant, Sizes(1, T, 3, 2, 2, 3, True, 0.0, seed))
    if extreme:
        # One input per step switches one column of every gate's weights on: gates up to ±300.
        case.x[...] = 0
        case.x[0, np.arange(T), case.rng.integers(3, size=T)] = 1
        for name, array in case.layer.params.items():
            if name in ("W_i", "W_f", "W_o"):
                array[...] = case.rng.uniform(-300, 300, array.shape)
            elif name == "W":
                z = slice(2 * len(array) // 4, 3 * len(array) // 4)
                kept = array[z].copy()
                array[...] = case.rng.uniform(-300, 300, array.shape)
                array[z] = kept
    return case


def _expected(variant: Variant, case: Case) -> tuple[Any, Any]:
    """Return outputs (T, H) and the final memory without the factor e^m."""
    xs, state, layer = plain.exactly(case.x[0]), case.state, case.layer
    if variant.is_mlstm:
        scale = [exp(mpf(float(m))) for m in state.m[0]] if variant.stabilised else [mpf(1)] * 2
        C = [matrix(plain.exactly(state.C[0, a])) * scale[a] for a in range(2)]
        n = [[mpf(0)] * 3] * 2
        if variant.stabilised:
            n = [[v * scale[a] for v in plain.exactly(state.n[0, a])] for a in range(2)]
        h, C, _ = plain.mlstm(layer.params, xs, C, n, layer.cell, 2)
        return h, [[C[a][i, j] for i in range(3) for j in range(2)] for a in range(2)]
    h, c = plain.exactly(state.h[0]), plain.exactly(state.c[0])
    if not variant.stabilised:
        return plain.lstm(layer.params, xs, h, c), None
    scale = [exp(mpf(float(m))) for m in state.m[0]]
    c = [a * s for a, s in zip(c, scale, strict=True)]
    n = [a * s for a, s in zip(plain.exactly(state.n[0]), scale, strict=True)]
    h, c, _ = plain.slstm(layer.params, xs, h, c, n, layer.num_heads, layer.forget_gate)
    return h, c


def _relative_error(got: Any, expected: Any) -> float:
    """Return the max norm of the difference divided by that of the exact value."""
    pairs = [
        (mpf(float(a)), b)
        for row, truth in zip(got, expected, strict=True)
        for a, b in zip(row, truth, strict=True)
    ]
    return float(max(abs(a - b) for a, b in pairs) / max(abs(b) for _, b in pairs))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_ordinary_gates(variant: Variant, seed: int) -> None:
    case = _case(variant, seed, extreme=False)
    y, _, _ = case.layer.forward(case.x, case.state)
    expected, _ = _expected(variant, case)
    assert _relative_error(y[0], expected) <= ORDINARY


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gates_up_to_300(variant: Variant, seed: int) -> None:
    if variant.options == {"forget_gate": "exp", "input_gate": "sigmoid"}:
        pytest.skip("C is not bounded in this variant: e^(300·50) is no float64")
    case = _case(variant, seed, extreme=True)
    y, _, _ = case.layer.forward(case.x, case.state)
    expected, _ = _expected(variant, case)
    assert _relative_error(y[0], expected) <= EXPONENT_BOUND


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.stabilised], ids=str)
def test_the_final_memory_times_e_to_the_m_is_the_plain_memory(variant: Variant) -> None:
    case = _case(variant, 7, extreme=False)
    _, state, _ = case.layer.forward(case.x, case.state)
    _, expected = _expected(variant, case)
    memory = state.C[0].reshape(2, 6) if variant.is_mlstm else state.c[0][None]
    scale = [exp(mpf(float(m))) for m in state.m[0]]
    for head, row in enumerate(memory):
        truth = expected[head] if variant.is_mlstm else expected
        scales = [scale[head]] * len(row) if variant.is_mlstm else scale
        got = [mpf(float(a)) * s for a, s in zip(row, scales, strict=True)]
        error = max(abs(a - b) for a, b in zip(got, truth, strict=True)) / max(map(abs, truth))
        largest_m = max(abs(float(m)) for m in state.m[0])
        assert error <= 1e-13 * max(1, largest_m)


@pytest.mark.parametrize(("dtype", "f_pre"), [(np.float32, 17.0), (np.float64, 37.0)])
def test_a_forget_gate_that_rounds_to_1_still_forgets(dtype: Any, f_pre: float) -> None:
    layer = sLSTM(1, 1, dtype=dtype, rng=np.random.default_rng(0))
    layer.params["W"][...] = 0
    layer.params["R"][...] = 0
    layer.params["b"][...] = [-1e4, f_pre, 0, 0]
    one, zero = np.ones((1, 1), dtype), np.zeros((1, 1), dtype)
    _, state = layer(np.zeros((1, 1000, 1), dtype), (zero, one, one, zero))
    log_f = -np.log1p(np.exp(-f_pre))
    assert 1 / (1 + np.exp(dtype(-f_pre))) == 1
    np.testing.assert_allclose(state.m, 1000 * log_f, rtol=1000 * np.finfo(dtype).eps)
