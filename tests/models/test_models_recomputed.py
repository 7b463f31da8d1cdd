"""Recomputation and dropout in both official models for all configurations."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.models import LanguageModel
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array
from tests.models.build import (
    MAIN_MODELS,
    B,
    T,
    V,
    assert_same,
    build,
    check,
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
    logits, after, cache = model.forward(draw_tokens(), rng=source_again, recompute=True)
    assert_same(flat(after, {"y": logits}), outputs)
    for _ in range(2):
        assert_same(flat(*model.backward(dlogits, cache, dstate)[1:]), gradients)
    assert source.random() == source_again.random()


@MAIN_MODELS
def test_recomputation_keeps_less(name: str) -> None:
    model, tokens = build(name), draw_tokens(128)

    def kept(recompute: bool) -> int:
        model.forward(tokens[:, :2])
        tracemalloc.start()
        try:
            results = model.forward(tokens, recompute=recompute)
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
