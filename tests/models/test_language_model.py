from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, mLSTM, sLSTM
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.layers import softmax_cross_entropy, softmax_cross_entropy_backward
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild, tree_map

V, D, H, B, T = 7, 4, 6, 3, 5
CELLS = {"lstm": LSTM, "slstm": sLSTM, "mlstm": mLSTM}
STEP = 1e-30


def build(cell: str, dtype: Any = np.float64) -> LanguageModel:
    rng = np.random.default_rng(1)
    heads = {} if cell == "lstm" else {"num_heads": 2}
    layer = CELLS[cell](D, H, dtype=dtype, rng=rng, **heads)
    model = LanguageModel(V, D, layer, rng=rng)
    for array in model.params.values():  # no bias may be zero
        array += (0.3 * rng.standard_normal(array.shape)).astype(dtype)
    return model


def draw_tokens(seed: int = 2, steps: int = T) -> Array:
    return np.random.default_rng(seed).integers(0, V, (B, steps))


def draw_like(state: Any, rng: np.random.Generator) -> Any:
    return tree_map(lambda array: rng.standard_normal(array.shape), state)


def add(a: Any, b: Any) -> Any:
    return tree_map(np.add, a, b)


def random_state(model: LanguageModel, rng: np.random.Generator) -> Any:
    """Return a reachable state without zeros."""
    _, state = model(draw_tokens(9))
    moved = add(state, draw_like(state, rng))
    if hasattr(state, "n"):
        return moved._replace(n=state.n + 0.1 * rng.random(state.n.shape))
    return moved


@pytest.mark.parametrize("cell", CELLS)
def test_names(cell: str) -> None:
    model = build(cell)
    names = {f"cell.{name}" for name in model.body.params}
    assert model.params.keys() == names | {"embedding.weight", "head.weight", "head.bias"}
    assert model.params["head.weight"].shape == (V, H)
    assert model.params["embedding.weight"] is model.embedding.params["weight"]


@pytest.mark.parametrize("cell", CELLS)
def test_every_gradient_by_complex_step(cell: str) -> None:
    rng = np.random.default_rng(3)
    model, tokens, wide = build(cell), draw_tokens(), build(cell).astype(np.complex128)
    state0 = random_state(model, rng)
    logits, state, cache = model.forward(tokens, state0)
    dlogits, dstate = rng.standard_normal(logits.shape), draw_like(state, rng)
    dx, dstate0, grads = model.backward(dlogits, cache, dstate)
    assert dx is None

    def derivative(changed: LanguageModel, state0: Any) -> float:
        complex_state = tree_map(lambda array: array.astype(complex), state0)
        y, last, _ = changed.forward(tokens, complex_state)
        pairs = zip(leaves("", dstate), leaves("", last), strict=True)
        total = (dlogits * y).sum() + sum((d * a).sum() for (_, d), (_, a) in pairs)
        return float(np.imag(total) / STEP)

    assert grads.keys() == model.params.keys()
    for name, grad in grads.items():
        scale = np.linalg.norm(grad)
        assert scale > 0, name
        for _ in range(3):
            u = rng.standard_normal(grad.shape)
            moved = wide.with_params({**wide.params, name: wide.params[name] + STEP * 1j * u})
            error = derivative(moved, state0) - (grad * u).sum()
            assert abs(error) < 1e-12 * scale * np.linalg.norm(u), name
    for field, grad in leaves("state", dstate0):
        u, before = rng.standard_normal(grad.shape), dict(leaves("state", state0))
        before[field] = before[field] + STEP * 1j * u
        error = derivative(wide, rebuild(state0, iter(before.values()))) - (grad * u).sum()
        assert abs(error) < 1e-12 * np.linalg.norm(grad) * np.linalg.norm(u), field


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_of_the_loss_by_complex_step(cell: str) -> None:
    rng = np.random.default_rng(4)
    model, tokens, targets = build(cell), draw_tokens(5), draw_tokens(6)
    logits, _, cache = model.forward(tokens)
    _, loss_cache = softmax_cross_entropy(logits, targets)
    _, _, grads = model.backward(softmax_cross_entropy_backward(1.0, loss_cache), cache)
    directions = {name: rng.standard_normal(g.shape) for name, g in grads.items()}
    wide = model.astype(np.complex128)
    moved = wide.with_params(
        {name: array + STEP * 1j * directions[name] for name, array in wide.params.items()}
    )
    loss, _ = softmax_cross_entropy(moved(tokens)[0], targets)
    expected = sum(float((grads[name] * u).sum()) for name, u in directions.items())
    assert float(loss.imag / STEP) == pytest.approx(expected, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("cut", [0, 1, 3, T])
def test_two_chunks_equal_the_whole(cell: str, cut: int) -> None:
    rng = np.random.default_rng(7)
    model, tokens = build(cell), draw_tokens()
    logits, state, cache = model.forward(tokens)
    dlogits, dstate = rng.standard_normal(logits.shape), draw_like(state, rng)
    _, _, grads = model.backward(dlogits, cache, dstate)

    first, between, first_cache = model.forward(tokens[:, :cut])
    second, last, second_cache = model.forward(tokens[:, cut:], between)
    _, dbetween, second_grads = model.backward(dlogits[:, cut:], second_cache, dstate)
    _, _, first_grads = model.backward(dlogits[:, :cut], first_cache, dbetween)
    np.testing.assert_allclose(np.concatenate((first, second), axis=1), logits, atol=1e-13)
    for got, expected in zip(last, state, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-13)
    for name, grad in grads.items():
        np.testing.assert_allclose(first_grads[name] + second_grads[name], grad, atol=1e-11)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_evaluation_is_the_forward_without_a_cache(cell: str, dtype: Any) -> None:
    model, tokens = build(cell, dtype), draw_tokens()
    _, start = model(draw_tokens(8))
    for state in (None, start):
        logits, after, _ = model.forward(tokens, state)
        got, got_after = model(tokens, state)
        assert logits.dtype == got.dtype == dtype
        np.testing.assert_array_equal(got, logits)
        for a, b in zip(got_after, after, strict=True):
            np.testing.assert_array_equal(a, b)


def test_with_params_replaces_every_part() -> None:
    model = build("slstm")
    other = model.with_params({name: 2 * array for name, array in model.params.items()})
    assert other.embedding.params["weight"][0, 0] == 2 * model.embedding.params["weight"][0, 0]
    assert not np.allclose(other(draw_tokens())[0], model(draw_tokens())[0])
    with pytest.raises(ShapeError, match=r"head\.bias: expected shape \(7,\); got \(8,\)"):
        model.with_params({**model.params, "head.bias": np.zeros(8)})


def test_a_parameter_that_would_be_lost_is_refused() -> None:
    model = build("slstm")
    params: Any = model.params
    with pytest.raises(TypeError, match="expected a change in place"):
        params["head.bias"] = np.zeros(7)
    model.params["head.bias"][...] = 3.0
    assert (model.head.params["bias"] == 3).all()


def test_the_same_generator_gives_the_same_model() -> None:
    for name, array in build("lstm").params.items():
        np.testing.assert_array_equal(array, build("lstm").params[name])


def test_a_tied_head_follows_its_embedding() -> None:
    rng = np.random.default_rng(0)
    model = LanguageModel(5, 4, LSTM(4, 4, rng=rng), tied=True, rng=rng)
    tokens, new = np.array([[1, 2, 3]]), rng.standard_normal((5, 4))
    expected = model.with_params({**model.params, "embedding.weight": new})(tokens)[0]
    assert not np.array_equal(model(tokens)[0], expected)
    model.params["embedding.weight"][...] = new
    np.testing.assert_array_equal(model(tokens)[0], expected)
    step = model.prepared().step(tokens[:, 0], model.init_state(1))
    np.testing.assert_allclose(step[0], expected[:, 0], rtol=1e-12)
    model.params["embedding.weight"][...] = 0
    assert not model(tokens)[0].any()
