"""Errors of both official models for all configurations."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.errors import DTypeError, NonFiniteError, OptionError, ShapeError, StateError
from numpy_xlstm.models import xLSTMLarge, xLSTMLMModel
from tests.models.build import (
    CONFIGS,
    MAIN_MODELS,
    B,
    T,
    V,
    build,
    draw_tokens,
    flat,
    random_state,
)

# Errors


@MAIN_MODELS
@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (np.array([1, 2]), ShapeError, r"tokens: expected shape \(B, T\); got \(2,\)"),
        (np.zeros((0, 3), int), ShapeError, "tokens: expected a batch of at least 1"),
        (np.array([[1, V]]), IndexError, r"tokens: expected ids from 0 to 6; got 7 at index"),
        (np.array([[-1]]), IndexError, r"tokens: expected ids from 0 to 6; got -1 at index"),
        (np.array([[1.0]]), DTypeError, "tokens: expected an array of integers; got float64"),
    ],
)
def test_bad_tokens(name: str, tokens: Any, error: type[Exception], message: str) -> None:
    model = build(name)
    for call in (model.forward, model):
        with pytest.raises(error, match=message):
            call(tokens)


@MAIN_MODELS
def test_bad_states(name: str) -> None:
    model = build(name)
    tokens, state = draw_tokens(), model.init_state(B)
    part = state[0].mlstm if hasattr(state[0], "mlstm") else state[0]

    def with_C(C: Any) -> Any:
        memory = part._replace(C=C)
        first = state[0]._replace(mlstm=memory) if hasattr(state[0], "mlstm") else memory
        return (first, *state[1:])

    where = r"state\.0\.(mlstm\.)?C"
    bad: list[tuple[Any, type[Exception], str]] = [
        (state[:1], ShapeError, r"state: expected a tuple \(0, 1.*\); got 1 entries"),
        (model.init_state(B + 1), ShapeError, r"state\.0\..*: expected shape \(2, .*got \(3, "),
        (with_C(part.C[:, :1]), ShapeError, rf"{where}: expected shape"),
        (with_C(None), DTypeError, rf"{where}: expected a NumPy array; got NoneType"),
        (with_C(part.C.astype(np.float32)), DTypeError, rf"{where}: .*got float32"),
        (3, ShapeError, "state: expected a tuple .*; got int"),
    ]
    for wrong, error, message in bad:
        for call in (model.forward, model):
            with pytest.raises(error, match=message):
                call(tokens, wrong)
    _, _, cache = model.forward(tokens)
    dlogits = np.ones((B, T, V))
    with pytest.raises(ShapeError, match="dstate: expected a tuple"):
        model.backward(dlogits, cache, state[:1])


@MAIN_MODELS
def test_bad_cotangents(name: str) -> None:
    model = build(name)
    _, _, cache = model.forward(draw_tokens())
    with pytest.raises(ShapeError, match=r"dy: expected shape \(2, 5, 7\); got \(2, 5, 6\)"):
        model.backward(np.ones((B, T, V - 1)), cache)
    with pytest.raises(NonFiniteError, match="dy"):
        model.backward(np.full((B, T, V), np.nan), cache)
    with pytest.raises(DTypeError, match="dy: expected float64"):
        model.backward(np.ones((B, T, V), np.float32), cache)


@MAIN_MODELS
@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_bad_batch_sizes(name: str, batch_size: Any) -> None:
    with pytest.raises(OptionError, match=f"batch_size: .*got {batch_size}"):
        build(name).init_state(batch_size)


# Arguments of a model


@MAIN_MODELS
def test_a_configuration_that_changes_later_changes_no_model(name: str) -> None:
    config = CONFIGS[name]()
    kind: Any = xLSTMLarge if hasattr(config, "gate_soft_cap") else xLSTMLMModel
    model = kind(config, rng=np.random.default_rng(30))
    expected = model(draw_tokens())[0]
    described = model.config.to_dict()
    config.vocab_size = 3
    config.num_blocks = 1
    if hasattr(config, "gate_soft_cap"):
        config.gate_soft_cap = 0.1
    np.testing.assert_array_equal(model(draw_tokens())[0], expected)
    assert model.config.to_dict() == described


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (xLSTMLMModel, "config: expected a xLSTMLMModelConfig; got dict"),
        (xLSTMLarge, "config: expected a xLSTMLargeConfig; got dict"),
    ],
)
def test_a_configuration_of_another_kind(kind: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        kind({"vocab_size": 3})


@MAIN_MODELS
def test_a_state_that_is_not_finite(name: str) -> None:
    model = build(name)
    logits, after, cache = model.forward(draw_tokens())
    for leaf in flat(after):
        state = random_state(model.init_state(B), np.random.default_rng(31))
        flat(state)[leaf][...] = np.nan
        with pytest.raises(NonFiniteError, match="expected finite numbers; got nan"):
            model.forward(draw_tokens(), state)
        with pytest.raises(NonFiniteError, match="dstate"):
            model.backward(np.zeros_like(logits), cache, state)
    with pytest.raises(NonFiniteError, match=r"dstate.*\.m: expected finite numbers; got -inf"):
        model.backward(np.zeros_like(logits), cache, model.init_state(B))


@pytest.mark.parametrize("name", ["slstm-only", "mixed", "tied"])
@pytest.mark.parametrize(("n", "c"), [(-1.0, 0.0), (0.0, 1.0)])
def test_a_state_that_no_sequence_leads_to(name: str, n: float, c: float) -> None:
    model = build(name)
    state = random_state(model.init_state(B), np.random.default_rng(32))
    memory = next(part.slstm for part in state if hasattr(part, "slstm"))
    memory.n[0, 1], memory.c[0, 1] = n, c
    for call in (model.forward, model):
        with pytest.raises(StateError):
            call(draw_tokens(), state)
