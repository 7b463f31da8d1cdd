"""Gradients and parts of sequences of both official models for all configurations."""

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.layers import base
from numpy_xlstm.trees import leaves, rebuild
from tests.models.build import (
    EVERY_MODEL,
    MAIN_MODELS,
    B,
    Example,
    T,
    V,
    assert_close,
    assert_same,
    build,
    check,
    draw_tokens,
    examples,
    few,
    flat,
    run,
)
from tests.samples import draw_like, random_state

# Gradients


@EVERY_MODEL
def test_every_gradient_by_complex_step(name: str) -> None:
    """Gradients of all parameters and of a non-empty initial state are correct."""
    model, rng = build(name), np.random.default_rng(5)
    report = check(model, draw_tokens(), random_state(model.init_state(B), rng))
    tensors = {row.tensor for row in report.rows}
    assert tensors >= model.params.keys() | flat(model.init_state(1)).keys()


@MAIN_MODELS
def test_every_gradient_from_the_empty_state(name: str) -> None:
    check(build(name, seed=4), draw_tokens(), seed=6)


@MAIN_MODELS
@pytest.mark.parametrize(("rows", "steps"), [(1, 70), (B, 70), (B, 1)])
def test_gradients_across_blocks_of_steps_and_chunks(name: str, rows: int, steps: int) -> None:
    """A scan has blocks of 25 steps, an mLSTM chunks of 64; 70 is a multiple of neither."""
    model = build(name, seed=7)
    state = random_state(model.init_state(rows), np.random.default_rng(8))
    check(model, draw_tokens(steps, rows=rows), state, seed=9)


@few
@given(example=examples(smallest_head=3).filter(lambda example: example.T > 0))
def test_gradients_of_any_configuration(example: Example) -> None:
    """Heads of one or two are left out: a norm over two numbers is ill conditioned."""
    model = example.model()
    state = random_state(model.init_state(example.B), np.random.default_rng(example.seed))
    check(model, example.tokens(), state, seed=example.seed)


@MAIN_MODELS
def test_the_gradient_is_zero_where_there_are_no_tokens(name: str) -> None:
    model, rng = build(name), np.random.default_rng(7)
    state = random_state(model.init_state(B), rng)
    logits, after, cache = model.forward(draw_tokens(0), state)
    assert logits.shape == (B, 0, V)
    assert_same(flat(after), flat(state))
    dstate = draw_like(after, rng)
    _, dstate0, grads = model.backward(logits, cache, dstate)
    assert_close(flat(dstate0), flat(dstate), 1e-13)
    assert grads.keys() == model.params.keys()
    assert all((g == 0).all() and g.shape == model.params[n].shape for n, g in grads.items())
    assert_same(flat(model(draw_tokens(0), state)[1]), flat(state))


# One path


@few
@given(example=examples(smallest_head=3), cuts=st.tuples(st.integers(0, 7), st.integers(0, 7)))
def test_three_pieces_equal_the_whole(example: Example, cuts: tuple[int, int]) -> None:
    """Return logits, final state and all gradients of a sequence in parts."""
    model, tokens, rng = example.model(), example.tokens(), np.random.default_rng(example.seed)
    state = random_state(model.init_state(example.B), rng)
    dlogits = rng.standard_normal((*tokens.shape, model.vocab_size))
    dstate = draw_like(state, rng)
    out, gradients = run(model, tokens, state, dlogits, dstate)

    edges = [0, *sorted(min(cut, example.T) for cut in cuts), example.T]
    pieces = [slice(*edge) for edge in itertools.pairwise(edges)]
    logits, caches, now = [], [], state
    for piece in pieces:
        some, now, cache = model.forward(tokens[:, piece], now)
        logits.append(some)
        caches.append(cache)
    assert_close(flat(now, {"logits": np.concatenate(logits, axis=1)}), out, 1e-11)

    total = {name: np.zeros_like(array) for name, array in model.params.items()}
    for piece, cache in reversed(list(zip(pieces, caches, strict=True))):
        _, dstate, grads = model.backward(dlogits[:, piece], cache, dstate)
        total = {name: total[name] + grads[name] for name in total}
    assert_close(flat(dstate, total), gradients, 1e-10)


@EVERY_MODEL
@pytest.mark.parametrize("empty", [True, False])
def test_token_by_token_equals_the_sequence(name: str, empty: bool) -> None:
    model, tokens, rng = build(name), draw_tokens(20), np.random.default_rng(8)
    state = None if empty else random_state(model.init_state(B), rng)
    logits, after, _ = model.forward(tokens, state)
    steps, now = np.empty_like(logits), state
    for t in range(20):
        steps[:, t : t + 1], now = model(tokens[:, t : t + 1], now)
    assert_close(flat(now, {"logits": steps}), flat(after, {"logits": logits}), 1e-11)


@EVERY_MODEL
def test_the_empty_state_is_the_default(name: str) -> None:
    model = build(name)
    empty = model.init_state(B)
    for part, array in leaves("", empty):
        assert (array == (-np.inf if part.endswith(".m") else 0)).all(), part
    logits, after, _ = model.forward(draw_tokens())
    explicit, after_explicit, _ = model.forward(draw_tokens(), empty)
    assert_same(flat(after, {"logits": logits}), flat(after_explicit, {"logits": explicit}))


@MAIN_MODELS
def test_evaluation_in_blocks_equals_the_forward(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "EVALUATION_BLOCK", 4)
    model = build(name)
    state = random_state(model.init_state(B), np.random.default_rng(9))
    for steps in (3, 4, 5, 11):
        logits, after, _ = model.forward(draw_tokens(steps), state)
        got, got_after = model(draw_tokens(steps), state)
        assert_close(flat(got_after, {"logits": got}), flat(after, {"logits": logits}), 1e-11)


def peak(call: Callable[[], Any]) -> int:
    """Return the peak of allocated bytes during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["mixed", "large-single"])
def test_memory_of_evaluation_does_not_grow_with_the_sequence(name: str) -> None:
    model = build(name)

    def above_logits(blocks: int) -> int:
        steps = blocks * base.EVALUATION_BLOCK
        tokens = draw_tokens(steps, rows=1)
        return peak(lambda: model(tokens)) - steps * V * 8

    above_logits(2)
    assert above_logits(4) <= 1.2 * above_logits(2)


@MAIN_MODELS
def test_rows_of_a_batch_do_not_know_each_other(name: str) -> None:
    """Each row alone gives the same results as in the batch, and its gradients add up."""
    model, rng, rows = build(name), np.random.default_rng(10), 3
    tokens = draw_tokens(rows=rows)
    state = random_state(model.init_state(rows), rng)
    dlogits, dstate = rng.standard_normal((rows, T, V)), draw_like(state, rng)
    out, gradients = run(model, tokens, state, dlogits, dstate)

    def row(tree: Any, n: int) -> Any:
        return rebuild(tree, iter([a[n : n + 1] for _, a in leaves("", tree)]))

    alone = [
        run(model, tokens[n : n + 1], row(state, n), dlogits[n : n + 1], row(dstate, n))
        for n in range(rows)
    ]
    together = {key: np.concatenate([found[0][key] for found in alone]) for key in out}
    assert_close(together, out, 1e-12)
    joined = {
        key: np.concatenate([found[1][key] for found in alone])
        if key.startswith("state.")
        else np.sum([found[1][key] for found in alone], axis=0)
        for key in gradients
    }
    assert_close(joined, gradients, 1e-11)
