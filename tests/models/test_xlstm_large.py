"""xLSTM Large: chunks, both layouts of its weights, its caches and its size."""

import numpy as np
import pytest

from numpy_xlstm import with_weight_mode, xLSTMLarge
from tests.models.build import (
    B,
    T,
    V,
    assert_close,
    build,
    draw_tokens,
    flat,
    large_config,
    make,
)


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 64])
def test_the_chunk_size_changes_nothing(chunk_size: int) -> None:
    tokens, model = draw_tokens(23), build("large-single")
    other = make(large_config(chunk_size=chunk_size))
    logits, after, _ = model.forward(tokens)
    got, got_after, _ = other.forward(tokens)
    assert_close(flat(got_after, {"logits": got}), flat(after, {"logits": logits}), 1e-11)


@pytest.mark.parametrize("bias", [True, False])
def test_both_layouts_are_one_model(bias: bool) -> None:
    single = make(large_config(use_bias=bias))
    assert isinstance(single, xLSTMLarge)
    fused = with_weight_mode(single, "fused")
    assert fused.num_parameters == single.num_parameters
    expected, got = (model.forward(draw_tokens()) for model in (single, fused))
    assert_close(flat(got[1], {"y": got[0]}), flat(expected[1], {"y": expected[0]}), 1e-13)


def test_caches_hold_what_the_options_of_their_models_were() -> None:
    """A model with the same weights uses those of the cache, not its own."""
    plain, dlogits = make(large_config()), np.random.default_rng(3).standard_normal((B, T, V))
    options = {"gate_soft_cap": 2.0, "output_logit_soft_cap": 3.0, "eps": 0.1, "norm_eps": 0.2}
    other = make(large_config(**options)).with_params(plain.params)
    _, _, cache = other.forward(draw_tokens())
    grads, same = (model.backward(dlogits, cache)[2] for model in (other, plain))
    own = plain.backward(dlogits, plain.forward(draw_tokens())[2])[2]
    for name, grad in grads.items():
        np.testing.assert_array_equal(same[name], grad)
    assert max(np.abs(own[name] - grad).max() for name, grad in grads.items()) > 1e-3
