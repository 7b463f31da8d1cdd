"""Layers, blocks and stacks on their own: gradients, parts of sequences, states, errors."""

import copy
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numpy_xlstm
from numpy_xlstm import (
    LSTM,
    LanguageModel,
    RMSNorm,
    Stacked,
    mLSTMBlock,
    mLSTMLayer,
    sLSTM,
    sLSTMBlock,
    sLSTMLayer,
    sLSTMLayerConfig,
    xLSTMBlockStack,
    xLSTMLargeBlock,
)
from numpy_xlstm.errors import DTypeError, OptionError, ShapeError
from numpy_xlstm.layers import GatedFeedForward, LayerNorm, LSTMSequence, base
from numpy_xlstm.models import xLSTMLargeLayer
from numpy_xlstm.models.blocks import BlockStack, ResidualBlock
from numpy_xlstm.trees import leaves
from tests.models.build import (
    B,
    T,
    assert_close,
    assert_same,
    check,
    fill,
    flat,
    large_config,
    lm_config,
    mlstm_block,
    slstm_block,
)
from tests.samples import draw_like, random_state

D = 8
BLOCKS: dict[str, Any] = {
    "mLSTMLayer": lambda **o: mLSTMLayer(mlstm_block(embedding_dim=D).mlstm, **o),
    "mLSTMLayer-bias": lambda **o: mLSTMLayer(
        mlstm_block(embedding_dim=D, bias=True, conv1d_kernel_size=1).mlstm, **o
    ),
    "mLSTMBlock": lambda **o: mLSTMBlock(mlstm_block(embedding_dim=D), **o),
    "sLSTMLayer": lambda **o: sLSTMLayer(slstm_block(embedding_dim=D).slstm, **o),
    "sLSTMLayer-no-conv": lambda **o: sLSTMLayer(
        slstm_block(embedding_dim=D, conv1d_kernel_size=0).slstm, **o
    ),
    "sLSTMBlock": lambda **o: sLSTMBlock(slstm_block(embedding_dim=D, ffn={"bias": True}), **o),
    "sLSTMBlock-no-ffn": lambda **o: sLSTMBlock(slstm_block(embedding_dim=D, ffn=False), **o),
    "xLSTMBlockStack": lambda **o: xLSTMBlockStack(lm_config(), **o),
    "xLSTMLargeLayer": lambda **o: xLSTMLargeLayer(large_config(embedding_dim=D), **o),
    "xLSTMLargeBlock": lambda **o: xLSTMLargeBlock(
        large_config(embedding_dim=D, weight_mode="fused", use_bias=True), **o
    ),
}
KINDS = pytest.mark.parametrize("name", list(BLOCKS))


def build(name: str, *, dtype: Any = np.float64, seed: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    return fill(BLOCKS[name](dtype=dtype, rng=rng), rng)


def draw(steps: int = T, *, rows: int = B, seed: int = 2, dtype: Any = np.float64) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, steps, D)).astype(dtype)


@KINDS
@pytest.mark.parametrize("steps", [1, T])
def test_every_gradient_by_complex_step(name: str, steps: int) -> None:
    block = build(name)
    state = random_state(block.init_state(B), np.random.default_rng(3))
    report = check(block, draw(steps), state)
    assert {row.tensor for row in report.rows} >= {"x", *block.params}


@KINDS
@pytest.mark.parametrize("cut", [0, 1, 3, T])
def test_two_pieces_equal_the_whole(name: str, cut: int) -> None:
    block, x, rng = build(name), draw(), np.random.default_rng(4)
    state = random_state(block.init_state(B), rng)
    y, last, cache = block.forward(x, state)
    dy, dstate = rng.standard_normal(y.shape), draw_like(last, rng)
    dx, dstate0, grads = block.backward(dy, cache, dstate)

    y1, middle, cache1 = block.forward(x[:, :cut], state)
    y2, end, cache2 = block.forward(x[:, cut:], middle)
    dx2, dmiddle, grads2 = block.backward(dy[:, cut:], cache2, dstate)
    dx1, before, grads1 = block.backward(dy[:, :cut], cache1, dmiddle)
    pieces = {"y": np.concatenate((y1, y2), axis=1)}
    assert_close(flat(end, pieces), flat(last, {"y": y}), 1e-12)
    total = {key: grads1[key] + grads2[key] for key in grads}
    total["x"] = np.concatenate((dx1, dx2), axis=1)
    assert_close(flat(before, total), flat(dstate0, grads | {"x": dx}), 1e-11)


@KINDS
def test_evaluation_equals_the_forward(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "EVALUATION_BLOCK", 4)
    block = build(name)
    start = random_state(block.init_state(B), np.random.default_rng(5))
    for steps in (0, 1, 4, 11):
        for state in (None, start):
            y, after, _ = block.forward(draw(steps), state)
            got, got_after = block(draw(steps), state)
            assert_close(flat(got_after, {"y": got}), flat(after, {"y": y}), 1e-12)


@pytest.mark.parametrize("name", ["mLSTMBlock", "sLSTMBlock", "xLSTMBlockStack"])
def test_memory_of_evaluation_does_not_grow_with_the_sequence(name: str) -> None:
    block = build(name)

    def above_outputs(blocks: int) -> int:
        x = draw(blocks * base.EVALUATION_BLOCK, rows=1)
        tracemalloc.start()
        try:
            block(x)
            peak: int = tracemalloc.get_traced_memory()[1] - x.nbytes
            return peak
        finally:
            tracemalloc.stop()

    above_outputs(2)
    assert above_outputs(4) <= 1.2 * above_outputs(2)


@KINDS
def test_the_empty_state_and_no_steps(name: str) -> None:
    block = build(name)
    empty = block.init_state(B)
    for part, array in leaves("", empty):
        assert (array == (-np.inf if part.endswith(".m") else 0)).all(), part
    y, after, cache = block.forward(draw(0), empty)
    assert y.shape == (B, 0, D)
    assert_same(flat(after), flat(empty))
    dx, dstate0, grads = block.backward(y, cache)
    assert dx.shape == y.shape
    assert all((array == 0).all() for array in flat(dstate0, grads).values())
    assert grads.keys() == block.params.keys()


@KINDS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_are_kept_and_arrays_left_alone(name: str, dtype: Any) -> None:
    block, rng = build(name, dtype=dtype), np.random.default_rng(6)
    x = draw(dtype=dtype)
    state = random_state(block.init_state(B), rng)
    dy, dstate = draw(seed=7, dtype=dtype), draw_like(state, rng)
    given_in = {"x": x, "dy": dy} | block.params
    given_in |= flat(state) | {f"d{key}": a for key, a in flat(dstate).items()}
    before = copy.deepcopy(given_in)
    y, after, cache = block.forward(x, state)
    dx, dstate0, grads = block.backward(dy, cache, dstate)
    assert_same(given_in, before)
    out = flat(after, {"y": y}) | {f"d{k}": a for k, a in flat(dstate0, grads | {"x": dx}).items()}
    assert {a.dtype for a in out.values()} == {np.dtype(dtype)}
    expected = copy.deepcopy(out)
    for array in (dx, *flat(dstate0, grads).values()):  # the cache can be used again
        array[...] = np.nan
    dx, dstate0, grads = block.backward(dy, cache, dstate)
    again = flat(dstate0, grads | {"x": dx})
    assert_same(again, {key: expected[f"d{key}"] for key in again})


@KINDS
def test_views_that_are_not_contiguous(name: str) -> None:
    block = build(name)
    wide = draw(2 * T)
    x, dy = wide[:, ::2], draw(2 * T, seed=8)[:, 1::2]
    y, _, cache = block.forward(x)
    expected, _, plain = block.forward(x.copy())
    assert_close({"y": y}, {"y": expected}, 1e-13)
    found, wanted = block.backward(dy, cache)[2], block.backward(dy.copy(), plain)[2]
    assert_close(found, wanted, 1e-12)


def test_a_residual_block_without_an_update_is_the_identity() -> None:
    """With both down-projections at 0, the output is the input."""
    for name in ("mLSTMBlock", "sLSTMBlock", "xLSTMLargeBlock"):
        block = build(name)
        for key, array in block.params.items():
            if any(part in key for part in ("proj_down", "out_proj", "group_norm")):
                array[...] = 0
        if name == "sLSTMBlock":  # its norm has the weight 1 + w
            block.params["xlstm.group_norm.weight"][...] = -1
        np.testing.assert_array_equal(block(draw())[0], draw())


@pytest.mark.parametrize(("kernel", "steps"), [(1, 0), (2, 1), (4, 3)])
def test_the_state_holds_the_last_inputs_of_the_convolution(kernel: int, steps: int) -> None:
    layer = sLSTMLayer(slstm_block(embedding_dim=D, conv1d_kernel_size=kernel).slstm)
    _, state = layer(draw())
    assert state.conv is not None
    np.testing.assert_array_equal(state.conv, draw()[:, T - steps :])


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_a_residual_block_of_a_layer_with_its_own_layout_of_states(name: str) -> None:
    rng = np.random.default_rng(0)
    layer = getattr(numpy_xlstm, name)(4, 4, 2, rng=rng)
    block = ResidualBlock(layer, LayerNorm(4))
    x = rng.standard_normal((3, 5, 4))
    y, after, _ = block.forward(x, None)
    normed, _ = block.norm.forward(x)
    expected, last = layer(normed)
    np.testing.assert_allclose(y, x + expected, rtol=0, atol=1e-14)
    for (_, a), (_, b) in zip(leaves("", after), leaves("", layer.inner_state(last)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)
    assert numpy_xlstm.gradcheck(block, x, rng=0).passed


def test_parts_of_blocks_and_stacks_that_do_not_fit() -> None:
    layer, ffn = sLSTM(4, 4), GatedFeedForward(4, 8)
    with pytest.raises(OptionError, match="ffn, ffn_norm: expected both or neither; got only ffn"):
        ResidualBlock(layer, LayerNorm(4), ffn)
    with pytest.raises(OptionError, match="got only ffn_norm"):
        ResidualBlock(layer, LayerNorm(4), ffn_norm=LayerNorm(4))
    with pytest.raises(OptionError, match="blocks: expected at least one; got none"):
        BlockStack([], None, "norm")


def block_of(width: int, **others: Any) -> ResidualBlock:
    parts: dict[str, Any] = {
        "layer": sLSTM(width, width),
        "norm": LayerNorm(width),
        "ffn": GatedFeedForward(width, 8),
        "ffn_norm": LayerNorm(width),
    }
    return ResidualBlock(**(parts | others))


def stack_of(*widths: int, norm: int = 4) -> BlockStack:
    return BlockStack([block_of(width) for width in widths], LayerNorm(norm), "norm")


COMPOSITES: dict[str, tuple[Callable[..., Any], Callable[[int], dict[str, Any]]]] = {
    "the layer of a block": (block_of, lambda D: {"layer": LSTMSequence(D, D)}),
    "the output of a layer": (block_of, lambda D: {"layer": LSTMSequence(4, D)}),
    "the norm of a block": (block_of, lambda D: {"norm": RMSNorm(D)}),
    "the feed-forward layer": (block_of, lambda D: {"ffn": GatedFeedForward(D, 8)}),
    "the norm before it": (block_of, lambda D: {"ffn_norm": LayerNorm(D)}),
    "the norm of a stack": (lambda width, norm: stack_of(width, norm=norm), lambda D: {"norm": D}),
    "a block of a stack": (lambda width, last: stack_of(width, last), lambda D: {"last": D}),
    "a layer on a layer": (
        lambda width, last: Stacked([[LSTMSequence(width, width)], [LSTMSequence(last, 4)]]),
        lambda D: {"last": D},
    ),
    "two directions": (
        lambda width, last: Stacked([[LSTMSequence(width, 4), LSTMSequence(last, 4)]]),
        lambda D: {"last": D},
    ),
    "the body of a model": (
        lambda width, body: LanguageModel(5, width, LSTM(body, 4)),
        lambda D: {"body": D},
    ),
    "the body of a tied model": (
        lambda width, body: LanguageModel(5, width, LSTM(width, body), tied=True),
        lambda D: {"body": D},
    ),
}
"""Composites of width 4, and the arguments that give one of their parts the width D."""


@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("width", [1, 3, 5])
def test_a_part_of_another_width(name: str, width: int) -> None:
    """A width of 1 would broadcast."""
    make, part = COMPOSITES[name]
    make(4, **part(4))
    with pytest.raises(ShapeError, match=r"expected .*width.*; got|expected .*_features"):
        make(4, **part(width))


@pytest.mark.parametrize(
    "part",
    [
        {"layer": sLSTM(4, 4, dtype=np.float32)},
        {"norm": LayerNorm(4, dtype=np.float32)},
        {"ffn": GatedFeedForward(4, 8, dtype=np.float32)},
        {"ffn_norm": LayerNorm(4, dtype=np.float32)},
    ],
)
def test_a_part_of_another_dtype(part: dict[str, Any]) -> None:
    with pytest.raises(DTypeError, match=r"expected float\d\d, the dtype of the other parts; got"):
        block_of(4, **part)
    other = block_of(4).astype(np.float32)
    with pytest.raises(DTypeError, match=r"blocks\[1\]: expected float64"):
        BlockStack([block_of(4), other], None, "norm")


def test_the_number_of_a_block_is_below_their_count() -> None:
    config = sLSTMLayerConfig(embedding_dim=8)
    sLSTMLayer(config, block=2, num_blocks=3)
    with pytest.raises(OptionError, match="block: expected an index from 0 to 2; got 3"):
        sLSTMLayer(config, block=3, num_blocks=3)
