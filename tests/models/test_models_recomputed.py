"""Recomputation, dropout and halves of batches on two threads, in both official models."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.layers import Recurrent, RMSNorm
from numpy_xlstm.layers.base import RunOptions
from numpy_xlstm.models import LanguageModel, blocks
from numpy_xlstm.models.blocks import ResidualBlock
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array, threads
from tests.models.build import (
    EVERY_MODEL,
    MAIN_MODELS,
    B,
    T,
    V,
    assert_same,
    build,
    check,
    distance,
    draw_tokens,
    flat,
    lm_config,
    make,
    run,
    slstm_block,
)
from tests.samples import draw_like, random_state


def with_dropout(**options: Any) -> LanguageModel:
    config = lm_config(
        dropout=0.4,
        add_embedding_dropout=True,
        slstm_block=slstm_block(ffn={"dropout": 0.3}),
        **options,
    )
    return make(config)


@pytest.mark.parametrize("tied", [True, False])
def test_recomputation_drops_the_same_entries(tied: bool) -> None:
    """Also in a second backward with the same cache."""
    model, rng = with_dropout(tie_weights=tied), np.random.default_rng(12)
    dlogits = rng.standard_normal((B, T, V))
    dstate = draw_like(model.init_state(B), rng)
    source, source_again = np.random.default_rng(13), np.random.default_rng(13)
    outputs, gradients = run(model, draw_tokens(), None, dlogits, dstate, rng=source)
    body: Any = model.body
    body.recompute = True
    logits, after, cache = model.forward(draw_tokens(), rng=source_again)
    assert_same(flat(after, {"y": logits}), outputs)
    for _ in range(2):
        assert_same(flat(*model.backward(dlogits, cache, dstate)[1:]), gradients)
    assert source.random() == source_again.random()


@MAIN_MODELS
def test_recomputation_keeps_less(name: str) -> None:
    model: Any = build(name)
    tokens = draw_tokens(128)

    def kept(recompute: bool) -> int:
        model.forward(tokens[:, :2])
        tracemalloc.start()
        try:
            model.body.recompute = recompute
            results = model.forward(tokens)
            assert results[0].shape == (B, 128, V)
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert kept(True) < 0.5 * kept(False)


class Seeded(Module):
    """Return a model that drops the same entries in every forward."""

    def __init__(self, model: LanguageModel, seed: int) -> None:
        self.model, self.seed, self.params = model, seed, model.params

    def with_params(self, params: Any) -> "Seeded":
        return Seeded(self.model.with_params(params), self.seed)

    def forward(self, tokens: Array, state: Any) -> Any:
        return self.model.forward(tokens, state, rng=np.random.default_rng(self.seed))

    def backward(self, dlogits: Array, cache: Any, dstate: Any) -> Any:
        return self.model.backward(dlogits, cache, dstate)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_with_dropout(seed: int) -> None:
    model = with_dropout()
    state = random_state(model.init_state(B), np.random.default_rng(15))
    check(Seeded(model, seed), draw_tokens(), state)


def test_dropout_needs_a_generator_and_follows_it() -> None:
    model, plain = with_dropout(), build("mixed")
    largest = make(lm_config(dropout=0.1, slstm_block=slstm_block(ffn={"dropout": 0.25})))
    assert (model.dropout, plain.dropout, largest.dropout) == (0.4, 0.0, 0.25)
    plain = plain.with_params(model.params)
    tokens = draw_tokens()

    def logits(seed: int) -> Array:
        return model.forward(tokens, rng=np.random.default_rng(seed))[0]

    np.testing.assert_array_equal(model.forward(tokens)[0], plain.forward(tokens)[0])
    np.testing.assert_array_equal(model(tokens)[0], plain(tokens)[0])
    np.testing.assert_array_equal(logits(1), logits(1))
    assert np.abs(logits(1) - logits(2)).max() > 1e-3
    assert np.abs(logits(1) - model(tokens)[0]).max() > 1e-3
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(plain.forward(tokens, rng=rng)[0], plain(tokens)[0])


ROWS = 5
LENGTHS = np.array([T, 3, 0, T - 1, 2])


def halve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute halves of every batch, also without compiled kernels."""
    monkeypatch.setattr(blocks, "WORTH_THREADS", 0)
    monkeypatch.setattr(blocks, "compiled", lambda dtype: True)


def results(name: str, lengths: Any, recompute: bool = False) -> dict[str, Any]:
    """Return everything that a forward and a backward of five rows give."""
    model: Any = build(name)
    model.body.recompute, rng = recompute, np.random.default_rng(21)
    state = random_state(model.init_state(ROWS), rng)
    dlogits, dstate = rng.standard_normal((ROWS, T, V)), draw_like(state, rng)
    given = model, draw_tokens(rows=ROWS), state, dlogits, dstate
    after, before = run(*given, lengths=lengths)
    return after | {f"before.{name}": array for name, array in before.items()}


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@EVERY_MODEL
def test_halves_give_what_the_batch_gives(
    name: str, lengths: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = results(name, lengths)
    halve(monkeypatch)
    halves = results(name, lengths)
    error, place = distance(halves, whole)
    assert error < 1e-12, place
    assert_same(results(name, lengths, recompute=True), halves)


@EVERY_MODEL
def test_results_do_not_depend_on_the_number_of_threads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("threadpoolctl", reason="threadpoolctl (the extra 'fast') is missing")
    halve(monkeypatch)
    monkeypatch.setattr(threads, "WORTH_THREADS", 0)
    with threads.blas_library().limit(limits=1):
        one = results(name, None)
    with threads.blas_library().limit(limits=2):
        if threads.num_threads() != 2:
            pytest.skip("this BLAS cannot have two threads here")
        assert_same(results(name, None), one)


def test_dropout_is_drawn_for_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = with_dropout(), draw_tokens(rows=ROWS)
    whole, *_ = model.forward(tokens, rng=np.random.default_rng(1))
    halve(monkeypatch)
    again, *_ = model.forward(tokens, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again, whole)


class Shift(Recurrent[Array]):
    """y = x + a + b; both gradients are one read-only array, and the state counts the calls."""

    Cache = tuple

    def __init__(self, width: int) -> None:
        self.in_features = self.out_features = width
        self.params = {"a": np.ones(width), "b": np.ones(width)}

    def init_state(self, batch_size: int) -> Array:
        return np.zeros((batch_size, 1))

    def compute(self, x: Array, state: Any, options: RunOptions) -> Any:
        return x + self.params["a"] + self.params["b"], state + 1, ()

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> Any:
        gradient = dy.sum(axis=(0, 1))
        gradient.flags.writeable = False
        return dy, dstate, {"a": gradient, "b": gradient}


def test_the_gradients_of_a_custom_block_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = blocks.BlockStack([ResidualBlock(Shift(3), RMSNorm(3))], None, "")
    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((2, ROWS, T, 3))

    def ran() -> dict[str, Any]:
        y, after, cache = stack.forward(x, (np.arange(5.0)[:, None],))
        dx, before, grads = stack.backward(dy, cache, (-np.arange(5.0)[:, None],))
        return {"y": y, "after": after[0], "dx": dx, "before": before[0]} | grads

    whole = ran()
    halve(monkeypatch)
    error, place = distance(ran(), whole)
    assert error < 1e-14, place
