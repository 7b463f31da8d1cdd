"""Properties of every cell for all shapes, lengths and numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves
from tests.samples import random_state
from tests.variants import VARIANTS, Sizes, Variant, assert_close, largest, make, sizes, variants


def _row(tree: Any, row: int) -> Any:
    if tree is None:
        return None
    return type(tree)(*(None if a is None else a[row : row + 1] for a in tree))


def _plus(a: dict[str, Array], b: dict[str, Array]) -> dict[str, Array]:
    return {name: a[name] + b[name] for name in a}


@given(variant=variants, s=sizes, cut=st.integers(0, 9))
def test_two_calls_equal_one(variant: Variant, s: Sizes, cut: int) -> None:
    """A sequence in two parts has the same outputs, final state and gradients."""
    case, cut = make(variant, s), min(cut, s.T)
    dy, dstate = case.cotangents()
    y, state, cache = case.layer.forward(case.x, case.state)
    whole = case.layer.backward(dy, cache, dstate)

    y1, middle, cache1 = case.layer.forward(case.x[:, :cut], case.state)
    y2, last, cache2 = case.layer.forward(case.x[:, cut:], middle)
    dx2, dmiddle, grads2 = case.layer.backward(np.ascontiguousarray(dy[:, cut:]), cache2, dstate)
    dx1, dstate0, grads1 = case.layer.backward(np.ascontiguousarray(dy[:, :cut]), cache1, dmiddle)

    assert_close((np.concatenate([y1, y2], axis=1), last), (y, state), 1e-13, 1e-15)
    parts = (np.concatenate([dx1, dx2], axis=1), dstate0, tuple(_plus(grads1, grads2).values()))
    expected = (whole[0], whole[1], tuple(whole[2].values()))
    assert_close(parts, expected, 1e-12, 1e-13 * largest(expected))


@given(variants, sizes, st.integers(0, 2**32 - 1))
def test_each_row_is_as_if_it_were_alone(variant: Variant, s: Sizes, seed: int) -> None:
    case = make(variant, s)
    lengths = np.random.default_rng(seed).integers(0, s.T + 1, s.B)
    dy, dstate = case.cotangents()
    y, last, cache = case.layer.forward(case.x, case.state, lengths=lengths)
    dx, dstate0, grads = case.layer.backward(dy, cache, dstate)
    total = {name: np.zeros_like(grad) for name, grad in grads.items()}
    for row, length in enumerate(lengths):
        cut = np.s_[row : row + 1, :length]
        y_row, last_row, cache_row = case.layer.forward(case.x[cut], _row(case.state, row))
        dx_row, dstate0_row, grads_row = case.layer.backward(dy[cut], cache_row, _row(dstate, row))
        assert_close(y[cut], y_row, 1e-12, 1e-14)
        assert_close(_row(last, row), last_row, 1e-12, 1e-14)
        assert_close(dx[cut], dx_row, 1e-11, 1e-12)
        assert_close(_row(dstate0, row), dstate0_row, 1e-11, 1e-12)
        assert not y[row, length:].any()
        assert not dx[row, length:].any()
        for name, grad in grads_row.items():
            total[name] += grad
    scale = max(float(np.abs(grad).max()) for grad in total.values())
    assert_close(tuple(grads.values()), tuple(total.values()), 1e-11, 1e-12 * (1 + scale))


bounded = st.sampled_from(
    [v for v in VARIANTS if v.options != {"forget_gate": "exp", "input_gate": "sigmoid"}]
)
"""Exclude the variant whose C is unbounded and can overflow."""


@given(variant=bounded, s=sizes)
def test_a_row_does_not_know_its_neighbours(variant: Variant, s: Sizes) -> None:
    """The results of a row do not depend on the other rows, even with extreme numbers."""
    case = make(variant, s)
    x, state = case.x.copy(), case.state
    x[1:] *= 1e4
    dy, dstate = case.cotangents()
    y, last, cache = case.layer.forward(x, state)
    dx, dstate0, _ = case.layer.backward(dy, cache, dstate)

    y1, last1, cache1 = case.layer.forward(x[:1], _row(state, 0))
    dx1, dstate01, _ = case.layer.backward(dy[:1], cache1, _row(dstate, 0))
    assert_close((y1, last1), (y[:1], _row(last, 0)), 1e-13, 1e-15)
    expected = (dx[:1], _row(dstate0, 0))
    assert_close((dx1, dstate01), expected, 1e-12, 1e-13 * largest(expected))


@given(variant=variants.filter(lambda v: v.stabilised), s=sizes, shift=st.floats(-20, 20))
def test_the_stabiliser_is_a_gauge(variant: Variant, s: Sizes, shift: float) -> None:
    """(c, n, m) and (c·e^a, n·e^a, m − a) give the same outputs and later states."""
    case = make(variant, Sizes(**{**s.__dict__, "eps": 0.0}))
    state = random_state(case.layer.init_state(s.B), case.rng)
    scale = np.exp(shift)
    if variant.is_mlstm:
        moved = type(state)(state.C * scale, state.n * scale, state.m - shift)
    else:
        moved = type(state)(state.h, state.c * scale, state.n * scale, state.m - shift)
    y, last, cache = case.layer.forward(case.x, state)
    y_moved, last_moved, cache_moved = case.layer.forward(case.x, moved)
    assert_close(y_moved, y, 1e-11, 1e-14)

    memory, memory_moved = (t.C if variant.is_mlstm else t.c for t in (last, last_moved))
    by = last_moved.m - last.m
    by = by[..., None, None] if variant.is_mlstm else by
    assert_close(memory_moved * np.exp(by), memory, 1e-10, 1e-13)

    dy = case.cotangents()[0]
    dx, _, grads = case.layer.backward(dy, cache)
    dx_moved, dstate0, grads_moved = case.layer.backward(dy, cache_moved)
    scale_of_gradients = largest((dx, tuple(grads.values())))
    assert_close(
        (dx_moved, tuple(grads_moved.values())),
        (dx, tuple(grads.values())),
        1e-10,
        1e-12 * scale_of_gradients,
    )
    inner = moved.C * dstate0.C if variant.is_mlstm else moved.c * dstate0.c
    if variant.is_mlstm:
        inner = inner.sum((-2, -1)) + (moved.n * dstate0.n).sum(-1)
    else:
        inner = inner + moved.n * dstate0.n
    assert_close(dstate0.m, inner, 1e-9, 1e-11 * (1 + largest(inner)))


@given(
    variant=bounded,
    s=sizes,
    size=st.sampled_from([50.0, 1e3, 1e4]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_extreme_gates_are_finite(variant: Variant, s: Sizes, size: float, dtype: Any) -> None:
    """No NaN, no infinity, no warning, with pre-activations of every gate up to ±1e4."""
    case = make(variant, s, dtype=dtype)
    params = case.layer.params
    for name, array in params.items():
        if name == "W" or name in ("W_i", "W_f", "W_o"):
            array[...] = size * np.sign(array)
        if name == "R":
            array[...] *= size
        if name in ("b_i", "b_f", "b"):
            array[...] = 0
    case.x[...] = np.sign(case.x) * case.rng.choice([0, 1], size=case.x.shape)
    dy, dstate = case.cotangents()
    y, state, cache = case.layer.forward(case.x, case.state)
    dx, dstate0, grads = case.layer.backward(dy, cache, dstate)
    for name, array in leaves("", (y, dx, dstate0, tuple(grads.values()))):
        assert np.isfinite(array).all(), name
    for name, array in leaves("", state):
        assert (np.isfinite(array) | np.isneginf(array)).all(), name


@example(  # q·n cancels: h is 97, from inputs near 1
    variant=VARIANTS[-2],
    s=Sizes(B=3, T=8, D=1, NH=3, DH=3, DK=3, with_state=True, eps=0.0, seed=3),
    dtype=np.longdouble,
)
@given(variant=variants, s=sizes, dtype=st.sampled_from([np.float64, np.longdouble]))
def test_a_sequence_is_its_steps(variant: Variant, s: Sizes, dtype: Any) -> None:
    """The sequence equals repeated single steps in outputs, states and gradients.

    The bound is on the page "How the cells are checked". In extended precision, if available, it is
    a thousandth of that: both compute the same, up to rounding.
    """
    case = make(variant, s, dtype=dtype)
    bound = 1e-12 if np.finfo(dtype).eps > 1e-18 else 1e-15
    cell = make(variant, s, step=True, dtype=dtype).layer.with_params(case.layer.params)
    dy, dstate = case.cotangents()
    y, last, cache = case.layer.forward(case.x, case.state)
    dx, dstate0, grads = case.layer.backward(dy, cache, dstate)

    state, steps, outputs = case.state, [], np.empty_like(y)
    for t in range(s.T):
        outputs[:, t], state, one = cell.forward(np.ascontiguousarray(case.x[:, t]), state)
        steps.append(one)
    if s.T == 0:
        return
    assert_close((outputs, state), (y, last), bound, bound / 1000)
    d, total = dstate, {name: np.zeros_like(a) for name, a in grads.items()}
    dx_steps = np.empty_like(dx)
    for t in reversed(range(s.T)):
        dx_steps[:, t], d, some = cell.backward(np.ascontiguousarray(dy[:, t]), steps[t], d)
        total = _plus(total, some)
    expected = (dx, dstate0, tuple(grads.values()))
    found = dx_steps, d, tuple(total.values())
    assert_close(found, expected, bound, 0.1 * bound * largest(expected))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_what_comes_out_shares_no_memory_with_what_went_in(variant: Variant) -> None:
    """Modifying an output or a state must not change the results of the backward."""
    case = make(variant, Sizes(2, 3, 3, 2, 2, 2, True, 0.1, 5))
    dy, dstate = case.cotangents()
    y, state, cache = case.layer.forward(case.x, case.state)
    expected = case.layer.backward(dy, cache, dstate)
    for _, array in leaves("", (y, state)):
        array[...] = np.nan
    got = case.layer.backward(dy, cache, dstate)
    assert np.array_equal(got[0], expected[0])
    assert_close(got[1], expected[1], 0.0)
    for name, gradient in expected[2].items():
        assert np.array_equal(got[2][name], gradient)
