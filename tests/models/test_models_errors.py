"""Errors of both official models for all configurations."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.errors import NonFiniteError, OptionError
from tests.models.build import (
    CONFIGS,
    MAIN_MODELS,
    B,
    build,
    draw_tokens,
    flat,
)
from tests.samples import random_state


@MAIN_MODELS
def test_a_configuration_is_frozen(name: str) -> None:
    config: Any = CONFIGS[name]()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.vocab_size = 3
    assert dataclasses.replace(config, vocab_size=3).vocab_size == 3
    with pytest.raises(OptionError, match="vocab_size: expected a whole number, at least 1; got 0"):
        dataclasses.replace(config, vocab_size=0)


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
