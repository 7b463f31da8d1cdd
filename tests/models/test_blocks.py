"""Blocks and stacks: what each adds to its parts, and parts that do not fit."""

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
    sLSTM,
)
from numpy_xlstm.errors import DTypeError, ShapeError
from numpy_xlstm.layers import GatedFeedForward, LayerNorm, LSTMSequence
from numpy_xlstm.models.blocks import BlockStack, ResidualBlock
from numpy_xlstm.trees import leaves


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
