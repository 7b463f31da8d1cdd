"""Errors of both official models for all configurations."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.errors import NonFiniteError
from numpy_xlstm.models import xLSTMLarge, xLSTMLMModel
from tests.models.build import (
    CONFIGS,
    MAIN_MODELS,
    B,
    build,
    draw_tokens,
    flat,
)
from tests.samples import random_state

# Errors


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
