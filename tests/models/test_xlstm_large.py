"""xLSTM Large: chunks, both layouts of its weights, its caches and its size."""

import numpy as np
import pytest

from numpy_xlstm import with_weight_mode, xLSTMLarge, xLSTMLargeConfig
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


def test_the_size_of_the_7b_model() -> None:
    """The count is 6,865,424,896, computed from the sizes and from one block that is built.

    The weights of a tiny model have the shapes that the formula below assumes.
    """

    def count(c: xLSTMLargeConfig) -> int:
        D, QK, W, U, NH = c.embedding_dim, c.qk_dim, c.v_dim, c.ffn_dim, c.num_heads
        layer = 2 * QK * D + 2 * W * D + 2 * NH * (D + 1) + W + W * D
        return c.num_blocks * (layer + 3 * U * D + 2 * D) + D + 2 * c.vocab_size * D

    tiny = large_config()
    assert make(tiny).num_parameters == count(tiny)
    big = xLSTMLargeConfig(embedding_dim=4096, num_heads=8, num_blocks=32, vocab_size=50304)
    assert count(big) == 6_865_424_896


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
