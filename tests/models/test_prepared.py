"""Prepared decode steps equal the model called once per token."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.kernels import maps, slstm
from numpy_xlstm.kernels.mlstm import step as mlstm_step
from numpy_xlstm.layers import GatedFeedForward, LayerNorm
from numpy_xlstm.models.blocks import mLSTMBlock, sLSTMBlock
from numpy_xlstm.models.mlstm_layer import mLSTMLayer
from numpy_xlstm.models.slstm_layer import sLSTMLayer
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import tree_map
from tests.models.build import (
    CELLS,
    CONFIGS,
    assert_close,
    assert_same,
    draw_tokens,
    flat,
    lm_config,
    make,
    mlstm_block,
    slstm_block,
    subject,
)
from tests.samples import random_state

STEPS = 6


def by_steps(model: Any, tokens: Array, state: Any) -> dict[str, Array]:
    """Return the logits of all steps, and the state after them."""
    decoder, logits = model.prepared(), []
    for column in tokens.T:
        last, state = decoder.step(column, state)
        logits.append(last)
    return flat(state, {"logits": np.stack(logits, axis=1)})


def by_the_model(model: Any, tokens: Array, state: Any) -> dict[str, Array]:
    logits, after = model(tokens, state)
    return flat(after, {"logits": logits})


WIDE = {"qkv_proj_blocksize": 32, "num_heads": 4, "proj_factor": 2.0}
ACT_FNS = ("gelu_tanh", "swish", "relu", "relu^2", "sigmoid", "selu")


def with_act_fn(act_fn: str) -> Any:
    return make(lm_config(slstm_block=slstm_block(ffn={"act_fn": act_fn})))


VARIANTS: dict[str, Callable[[], Any]] = {
    "blocks that are not joined": lambda: make(
        lm_config(embedding_dim=32, mlstm_block=mlstm_block(**WIDE), bias=True)
    ),
    **{f: partial(with_act_fn, f) for f in ACT_FNS},
}
NAMES = pytest.mark.parametrize("name", [*CONFIGS, *CELLS])


@NAMES
@pytest.mark.parametrize(("rows", "prompt"), [(1, 0), (3, 2), (1, 70)])
def test_steps_go_on_after_a_prompt(name: str, rows: int, prompt: int) -> None:
    """Start from the empty state, and after prompts of one, several and many steps."""
    model, tokens = subject(name), draw_tokens(prompt + STEPS, rows=rows)
    _, state = model(tokens[:, :prompt])
    rest = tokens[:, prompt:]
    assert_close(by_steps(model, rest, state), by_the_model(model, rest, state), 1e-12)


@pytest.mark.parametrize("name", [*CONFIGS, *CELLS, *VARIANTS])
def test_steps_from_any_state(name: str) -> None:
    model, tokens = VARIANTS.get(name, partial(subject, name))(), draw_tokens(STEPS, rows=2)
    state = random_state(model.init_state(2), np.random.default_rng(3))
    assert_close(by_steps(model, tokens, state), by_the_model(model, tokens, state), 1e-12)


def changed(model: Any, kind: type) -> Any:
    """Return a model whose parts of a kind have a ``compute`` of their own, which scales y."""

    class Scaled(kind):  # type: ignore[misc]
        def compute(self, *args: Any, **options: Any) -> Any:
            y, *rest = super().compute(*args, **options)
            return np.linspace(0.5, 1.5, y.shape[-1]) * y, *rest

    model = copy.deepcopy(model)
    for block in model.body.blocks:
        for part in (block, block.layer, block.norm, block.ffn):
            if type(part) is kind:
                part.__class__ = Scaled
    return model


@pytest.mark.parametrize(
    "kind", [mLSTMLayer, sLSTMLayer, mLSTMBlock, sLSTMBlock, LayerNorm, GatedFeedForward]
)
def test_a_subclass_with_its_own_compute_is_asked(kind: type) -> None:
    model, tokens = subject("mixed"), draw_tokens(STEPS, rows=2)
    other, state = changed(model, kind), model.init_state(2)
    expected = by_the_model(other, tokens, state)
    assert_close(by_steps(other, tokens, state), expected, 1e-12)
    assert np.abs(expected["logits"] - by_the_model(model, tokens, state)["logits"]).max() > 1e-3


@pytest.mark.parametrize("name", ["slstm-only", "mixed", "large-single"])
@pytest.mark.parametrize("gate", [-800.0, 800.0])
@pytest.mark.parametrize("fast", [True, False])
def test_gates_far_from_zero(
    name: str, gate: float, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large pre-activations, for which e^x overflows or underflows, also with empty entries."""
    if not fast:
        for module in (maps, slstm, mlstm_step):
            monkeypatch.setattr(module, "compiled", lambda dtype: False)
    model = subject(name)
    for key, array in model.params.items():
        if "gate" in key and "bias" in key:
            array[...] = gate
        elif key.endswith("_bias_"):
            array[...] = gate * np.sign(array)
    tokens, state = draw_tokens(STEPS, rows=2), model.init_state(2)
    state = tree_map(lambda a: np.where(np.isneginf(a), 0, a), state)  # m = 0 with n = 0
    with np.errstate(all="raise"):
        got = by_steps(model, tokens, state)
    assert_close(got, by_the_model(model, tokens, state), 1e-12)


@NAMES
def test_neither_the_state_nor_the_weights_are_changed(name: str) -> None:
    model, tokens = subject(name), draw_tokens(1, rows=2)[:, 0]
    state = random_state(model.init_state(2), np.random.default_rng(3))
    before, params = {k: a.copy() for k, a in flat(state).items()}, dict(model.params)
    kept = {key: array.copy() for key, array in params.items()}
    decoder = model.prepared()
    first, after = decoder.step(tokens, state)
    assert_same(flat(state), before)
    assert_same(params, kept)
    assert not any(
        np.shares_memory(a, b) for a, b in zip(flat(after).values(), before.values(), strict=True)
    )
    again, _ = decoder.step(tokens, state)
    np.testing.assert_array_equal(again, first)
    for array in params.values():
        array += 0.5
    assert np.abs(model.prepared().step(tokens, state)[0] - first).max() > 1e-3
