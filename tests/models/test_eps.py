"""Every ε is used where it belongs: in the forward, in the backward and in the decode step.

A norm cancels a factor of its input, and so hides the ε of the mLSTM before it unless its own ε is
large. Here the ε of a configuration are large and different, and the results are compared with the
formulas in plain NumPy, so that another ε or a constant gives other numbers.
"""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.numerics import Array
from tests.models.build import (
    assert_close,
    check,
    draw_tokens,
    large_config,
    lm_config,
    make,
    mlstm_block,
)
from tests.models.test_prepared import by_steps, by_the_model
from tests.samples import random_state

EPS, NORM_EPS = 0.7, 0.2
MAPS = "q", "k", "v", "ogate_preact", "igate_preact", "fgate_preact"


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def normed(x: Array, eps: float, gain: Array, heads: int = 1) -> Array:
    """RMS norm of one vector; for several heads, a layer norm of each."""
    parts = x.reshape(heads, -1)
    if heads > 1:
        parts = parts - parts.mean(axis=1, keepdims=True)
    y: Array = (parts / np.sqrt((parts**2).mean(axis=1, keepdims=True) + eps)).ravel() * gain
    return y


def memory_step(
    qkv: list[Array], i: Array, f: Array, state: tuple[Array, Array, Array], eps: float
) -> tuple[Array, tuple[Array, Array, Array]]:
    """One step of an mLSTM: h (NH, DV), C (NH, DK, DV), n (NH, DK), m (NH,)."""
    (q, k, v), (C, n, m) = (a.reshape(len(i), -1) for a in qkv), state
    after = np.maximum(np.log(sigmoid(f)) + m, i)
    forget, write = sigmoid(f) * np.exp(m - after), np.exp(i - after)
    k = write[:, None] * k / np.sqrt(k.shape[1])
    C, n = forget[:, None, None] * C + k[:, :, None] * v[:, None], forget[:, None] * n + k
    floor = np.maximum(np.abs((q * n).sum(axis=1)), np.exp(-after))
    return np.einsum("hk,hkv->hv", q, C) / (floor + eps)[:, None], (C, n, after)


def one_row(model: Any, tokens: Array) -> Array:
    """Logits of an xLSTM Large with separate weights, token after token, without its code."""
    c, p = model.config, model.params
    NH, K, DV = c.num_heads, c.qk_dim // c.num_heads, c.v_dim // c.num_heads
    states = [(np.zeros((NH, K, DV)), np.zeros((NH, K)), np.full(NH, -np.inf))] * c.num_blocks
    logits = []
    for token in tokens:
        x = p["embedding.weight"][token]
        for number in range(c.num_blocks):
            path = f"backbone.blocks.{number}."
            w = {n[len(path) :].removesuffix(".weight"): p[n] for n in p if n.startswith(path)}
            y = normed(x, c.norm_eps, w["norm_mlstm"])
            q, k, v, o, i, f = (w[f"mlstm_layer.{name}"] @ y for name in MAPS)
            i, f = (
                c.gate_soft_cap * np.tanh((pre + w[f"mlstm_layer.{name}.bias"]) / c.gate_soft_cap)
                for pre, name in zip((i, f), MAPS[4:], strict=True)
            )
            h, states[number] = memory_step([q, k, v], i, f, states[number], c.eps)
            h = normed(h, c.norm_eps, w["mlstm_layer.multihead_norm"], NH)
            x = x + w["mlstm_layer.out_proj"] @ (sigmoid(o) * h)
            y = normed(x, c.norm_eps, w["norm_ffn"])
            up, value = w["ffn.proj_up_gate"] @ y, w["ffn.proj_up"] @ y
            x = x + w["ffn.proj_down"] @ (up * sigmoid(up) * value)
        x = normed(x, c.norm_eps, p["backbone.out_norm.weight"])
        cap = c.output_logit_soft_cap
        logits.append(cap * np.tanh(p["lm_head.weight"] @ x / cap))
    return np.stack(logits)


def test_the_reference_of_a_large_model() -> None:
    """The forward, in chunks and step by step, and the decode step."""
    model, tokens = make(large_config(eps=EPS, norm_eps=NORM_EPS)), draw_tokens(8)
    expected = np.stack([one_row(model, row) for row in tokens])
    np.testing.assert_allclose(model.forward(tokens)[0], expected, rtol=0, atol=1e-12)
    steps = by_steps(model, tokens, model.init_state(len(tokens)))
    np.testing.assert_allclose(steps["logits"], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["single", "fused"])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_and_decode_steps_of_a_large_model(mode: str, bias: bool) -> None:
    options = {"use_bias": bias, "weight_mode": mode}
    model, tokens = make(large_config(eps=EPS, norm_eps=NORM_EPS, **options)), draw_tokens(8)
    state = random_state(model.init_state(len(tokens)), np.random.default_rng(3))
    assert_close(by_steps(model, tokens, state), by_the_model(model, tokens, state), 1e-12)
    check(model, tokens, state)


def test_the_paper_s_model_with_small_numbers() -> None:
    """The fixed ε, 1e-6 of the mLSTM and 1e-5 of norms, next to numbers of their size."""
    model = make(lm_config(mlstm_block=mlstm_block(num_heads=2), num_blocks=2))
    for name, array in model.params.items():
        if "igate.bias" in name:
            array[...] = 14.0  # e^−m is about 1e-6
        elif name.endswith(("proj.weight", "embedding.weight")):
            array *= 1e-3
    tokens = draw_tokens(8)
    state = model.init_state(len(tokens))
    assert_close(by_steps(model, tokens, state), by_the_model(model, tokens, state), 1e-12)
