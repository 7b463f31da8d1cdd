"""Rows of different lengths in one batch give the same results as each row alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import (
    GRU,
    RNN,
    LanguageModel,
    mLSTM,
    mLSTMBlock,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTM,
    sLSTMBlock,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    stack_layers,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.errors import DTypeError, OptionError, ShapeError
from numpy_xlstm.layers import CausalConv1d, LSTMSequence
from numpy_xlstm.trees import tree_map
from tests.samples import draw_like

D, V = 8, 11
HEADS: dict[str, Any] = {"embedding_dim": D, "num_heads": 2}
BLOCKS: dict[str, Any] = {
    "mlstm_block": mLSTMBlockConfig(mLSTMLayerConfig(num_heads=2)),
    "slstm_block": sLSTMBlockConfig(sLSTMLayerConfig(num_heads=2)),
    "num_blocks": 2,
    "embedding_dim": D,
    "slstm_at": [1],
}
KINDS: dict[str, Any] = {
    "conv": lambda rng: CausalConv1d(D, 3, rng=rng),
    "sLSTM": lambda rng: sLSTM(D, D, 2, rng=rng),
    "mLSTM": lambda rng: mLSTM(D, D, 2, rng=rng),
    "stack of layers": lambda rng: stack_layers(LSTMSequence, D, D, 2, bidirectional=True, rng=rng),
    "mLSTM block": lambda rng: mLSTMBlock(mLSTMBlockConfig(mLSTMLayerConfig(**HEADS)), rng=rng),
    "sLSTM block": lambda rng: sLSTMBlock(sLSTMBlockConfig(sLSTMLayerConfig(**HEADS)), rng=rng),
    "sLSTM block without convolution": lambda rng: sLSTMBlock(
        sLSTMBlockConfig(sLSTMLayerConfig(conv1d_kernel_size=0, **HEADS)), rng=rng
    ),
    "stack": lambda rng: xLSTMBlockStack(xLSTMBlockStackConfig(**BLOCKS), rng=rng),
    "model": lambda rng: xLSTMLMModel(xLSTMLMModelConfig(vocab_size=V, **BLOCKS), rng=rng),
    "large": lambda rng: xLSTMLarge(xLSTMLargeConfig(num_blocks=2, vocab_size=V, **HEADS), rng=rng),
    "model of GRU": lambda rng: LanguageModel(V, D, GRU(D, D, 2, rng=rng), rng=rng),
}


def moved(model: Any, rng: np.random.Generator) -> Any:
    """Return the model with non-zero parameters."""
    return model.with_params(
        {name: a + 0.2 * rng.standard_normal(a.shape) for name, a in model.params.items()}
    )


def row(tree: Any, b: int) -> Any:
    return tree_map(lambda a: a[b : b + 1], tree)


def assert_close(got: Any, expected: Any) -> None:
    tree_map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), got, expected)


@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    more=st.integers(0, 2),
    recompute=st.booleans(),
)
def test_each_row_is_computed_as_it_is_alone(
    kind: str, seed: int, lengths: list[int], more: int, recompute: bool
) -> None:
    rng, B, T = np.random.default_rng(seed), len(lengths), max(lengths) + more
    model = moved(KINDS[kind](rng), rng)
    tokens = isinstance(model, LanguageModel)
    x: Any = rng.integers(0, V, (B, T)) if tokens else rng.standard_normal((B, T, D))
    if not tokens:
        for b, T_b in enumerate(lengths):
            x[b, T_b:] = 1e30  # padding may have any finite value
    _, state, _ = model.forward(x[:, :1] if tokens else rng.standard_normal((B, 1, D)))
    options: dict[str, Any] = {"recompute": True} if recompute and "of GRU" not in kind else {}
    options = options if tokens else {}
    y, after, cache = model.forward(x, state, lengths=np.array(lengths), **options)
    dy, dstate = rng.standard_normal(y.shape), draw_like(after, rng)
    dx, dstate0, grads = model.backward(dy, cache, dstate)
    evaluated, last = model(x, state, lengths=np.array(lengths))
    assert_close((evaluated, last), (y, after))
    total = tree_map(np.zeros_like, dict(model.params))
    for b, T_b in enumerate(lengths):
        alone, now, kept = model.forward(x[b : b + 1, :T_b], row(state, b))
        assert_close((y[b : b + 1, :T_b], row(after, b)), (alone, now))
        assert not y[b, T_b:].any()
        dalone, dbefore, found = model.backward(dy[b : b + 1, :T_b], kept, row(dstate, b))
        assert_close(row(dstate0, b), dbefore)
        if not tokens:
            assert_close(dx[b : b + 1, :T_b], dalone)
            assert not dx[b, T_b:].any()
        total = {name: total[name] + found[name] for name in total}
    assert_close([grads[name] for name in total], list(total.values()))


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_what_would_overflow_in_padding_does_not(dtype: Any) -> None:
    layer = RNN(1, 1, nonlinearity="relu", dtype=dtype)
    for name, value in (("weight_ih_l0", 1), ("weight_hh_l0", 2), ("bias_ih_l0", 0)):
        layer.params[name][...] = value
    layer.params["bias_hh_l0"][...] = 0
    T = 20_000 if dtype == np.longdouble else 1200
    x = np.zeros((2, T, 1), dtype)
    x[0, :3] = 1
    y, _, cache = layer.forward(x, lengths=np.array([3, T]))
    grads = layer.backward(np.ones_like(y), cache)[2]
    y, _, cache = layer.forward(x[:1, :3])
    alone = layer.backward(np.ones_like(y), cache)[2]
    assert grads["weight_hh_l0"] == alone["weight_hh_l0"] == 6


def test_wrong_lengths_are_refused() -> None:
    model = KINDS["model"](np.random.default_rng(0))
    for wrong in (np.array([3]), np.array([3, 4]), np.array([-1, 2]), np.array([1.0, 2.0])):
        with pytest.raises((ShapeError, OptionError, DTypeError), match="lengths: expected"):
            model.forward(np.zeros((2, 3), int), lengths=wrong)
