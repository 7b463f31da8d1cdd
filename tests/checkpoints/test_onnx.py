"""Exported graphs compute what the models compute."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import sLSTM
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, tree_map
from tests.checkpoints.onnx_run import Session, beside, in_pieces, inputs, models
from tests.models.build import CONFIGS, build, draw_tokens, fill
from tests.samples import random_state, times

PIECES = 1, 5, 0, 64, 1, 100


def far(got: tuple[Array, Any], expected: tuple[Array, Any]) -> float:
    """Return the largest error in y and in the state, relative to the largest number of each."""
    worst = 0.0
    for (_, a), (name, b) in zip(leaves("", got), leaves("", expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, got[0].dtype), name
        assert (np.isneginf(a) == np.isneginf(b)).all(), name
        a, b = (np.where(np.isneginf(x), 0, x).astype(np.float64) for x in (a, b))
        assert np.isfinite(a).all(), name
        worst = max(worst, np.abs(a - b).max(initial=0) / max(1.0, np.abs(b).max(initial=0)))
    return float(worst)


def has_relu(model: Any) -> bool:
    return getattr(getattr(model, "body", model), "nonlinearity", "") == "relu"


@times(0.8)
@given(models(), st.integers(0, 2**32 - 1), st.booleans())
def test_in_float64(model: Any, seed: int, from_state: bool) -> None:
    if has_relu(model):  # neither the runtime nor the evaluator has it in float64
        return
    rng, session = np.random.default_rng(seed), Session(model)
    sizes = (1, 0, 3, 2) if session.evaluated else PIECES
    x, state = inputs(model, sum(sizes), rng), model.init_state(2)
    if from_state:
        state = model(inputs(model, 3, rng), None)[1]
    expected = model(x, state)
    assert far(session(x, state), expected) < 1e-12
    if not model.causal:
        return
    axis = int(model.batch_first)
    assert far(in_pieces(session, x, state, sizes, axis), expected) < 1e-12
    step, few = Session(model, step=True), 4
    x = x[:, :few] if model.batch_first else x[:few]
    expected = model(x, state)
    for run in (step, session):
        assert far(in_pieces(run, x, state, [1] * few, axis), expected) < 1e-12


@times(0.5)
@given(models(), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 8.0]))
def test_in_float32(model: Any, seed: int, scale: float) -> None:
    """The error is at most three times that of NumPy, also with harsh weights.

    Gates of ONNX Runtime's LSTM, GRU and RNN are approximations, with errors of 1e-6. Harsh weights
    would multiply these, so such layers keep their own.
    """
    rng, body = np.random.default_rng(seed), getattr(model, "body", model)
    gates = [getattr(body, f"{name}_gate", "") for name in ("input", "forget")]
    unbounded = gates == ["sigmoid", "exp"] or has_relu(model)
    mild = unbounded or Session(model).operators & {"LSTM", "GRU", "RNN"}
    for array in model.params.values():
        array[...] = (array if mild else scale * array).astype(np.float32)
    x = inputs(model, 3 if unbounded else 70, rng)
    exact, narrow = model(x), model.astype(np.float32)
    x = x if x.dtype.kind == "i" else x.astype(np.float32)
    ours, session = max(far(near(x), exact) for near in beside(narrow)), Session(narrow)
    approximate = session.operators & {"LSTM", "GRU", "RNN"}
    bound = 3 * ours + 5e-6 if approximate else max(3 * ours, 2e-6)
    assert far(session(x, narrow.init_state(2)), exact) <= bound


@pytest.mark.parametrize("name", ["mlstm-only", "no-ffn", "large-single"])
def test_zeros_are_the_empty_state(name: str) -> None:
    model, tokens = build(name), draw_tokens(6)
    zeros = tree_map(np.zeros_like, model.init_state(2))
    for session in (Session(model), Session(model, step=True)):
        assert far(in_pieces(session, tokens, zeros, [1] * 6), model(tokens)) < 1e-12
    assert far(Session(model)(tokens, zeros), model(tokens)) < 1e-12


def test_zeros_are_the_empty_state_of_slstm() -> None:
    """Its input gates are closed, so that m = 0 of another state would win."""
    layer = fill(sLSTM(2, 4, num_heads=2), np.random.default_rng(0))
    layer.params["b"][:4] = -20
    zeros, x = tree_map(np.zeros_like, layer.init_state(1)), np.ones((1, 3, 2))
    assert far(Session(layer)(x, zeros), layer(x)) < 1e-12


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_configuration(name: str) -> None:
    model, tokens = build(name, dtype=np.float32), draw_tokens(66)
    exact, session, ours, found = model.astype(np.float64), Session(model), [], []
    for seed in range(5, 8):  # the largest error of one state alone depends on chance
        state = random_state(model.init_state(2), np.random.default_rng(seed))
        expected = exact(tokens, tree_map(lambda a: a.astype(np.float64), state))
        ours += [far(near(tokens, state), expected) for near in beside(model)]
        found.append(far(session(tokens, state), expected))
    assert max(found) <= max(3 * max(ours), 2e-6)


def test_narrow_parameters_are_computed_in_float32() -> None:
    model, tokens = build("large-single", dtype=np.float32), draw_tokens(7)
    rounded = model.with_params({n: a.astype("f2").astype("f4") for n, a in model.params.items()})
    found = Session(model, dtype="float16")(tokens, model.init_state(2))
    assert far(found, rounded(tokens)) < 1e-5
