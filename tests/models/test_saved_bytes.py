"""The residuals of a forward match the tables in ``docs/blocks/``."""

import dataclasses
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from math import ceil, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from numpy_xlstm import (
    mLSTMBlock,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlock,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
    xLSTMLargeBlock,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.kernels.mlstm.chunkwise import CHUNK_SIZE
from numpy_xlstm.numerics import Array

DOCS = Path(__file__).parents[2] / "docs/blocks"


class Sizes(NamedTuple):
    """Sizes of a batch and of a block, with the names in ``docs/blocks/``."""

    B: int
    T: int
    D: int
    NH: int = 4


SIZES = [Sizes(B=4, T=256, D=128), Sizes(B=2, T=100, D=64, NH=2)]

Table = dict[str, int]
"""Names and sizes of arrays; arrays that share memory are one entry."""


# The tables of docs/blocks/, in numbers


def memory(s: Sizes, DK: int, DV: int, L: int = CHUNK_SIZE) -> Table:
    """Return the residuals of the mLSTM in chunks of L steps, without q."""
    B, T, _, NH = s
    chunks = -(-T // L)
    L = -(-T // chunks)
    padded = chunks * L
    return {
        "memory.h": B * T * NH * DV,
        "memory.i, .f": 2 * B * T * NH,
        "memory.form…k": B * padded * NH * DK,
        "memory.form…v": B * padded * NH * (DV + 1),
        "memory.form…w": B * NH * padded * L,
        "memory.form…w_state, .qn": B * (padded + T) * NH,
        "memory.ms": B * NH * T,
        "memory.past": B * T * NH // 4,
        "memory.form…C": (chunks + 1) * B * NH * DK * (DV + 1),
    }


def mlstm_block(s: Sizes, K: int = 4) -> Table:
    B, T, D, NH = s
    I = 2 * D  # noqa: E741
    return {
        "norm.normed": B * T * D,
        "norm.scale": B * T,
        "layer.up.x": B * T * D,
        "layer.projections[2].x, a view of (p, z)": B * T * 2 * I,
        "layer.conv.padded": B * (K - 1 + T) * I,
        "layer.active, layer.active_cache.y": B * T * I,
        "layer.active_cache.s": B * T * I,
        "layer.gate, layer.gate_cache.y": B * T * I,
        "layer.gate_cache.s": B * T * I,
        "layer.gates[0, 1].x, layer.memory.q": 3 * B * T * I,
        **memory(s, I // NH, I // NH),
        "layer.norm.normed": B * T * I,
        "layer.norm.scale": B * T * NH,
        "layer.read": B * T * I,
        "layer.down.x": B * T * I,
    }


def feed_forward(s: Sizes, U: int, *, gelu: bool = False) -> Table:
    B, T, D, _ = s
    return {
        "ffn_norm.normed": B * T * D,
        "ffn_norm.scale": B * T,
        "ffn.up.x": B * T * D,
        "ffn.gate": B * T * U,
        "ffn.activation": B * T * U * (1 + gelu),
        "ffn.value": B * T * U,
        "ffn.down.x": B * T * U,
    }


def slstm_block(s: Sizes, K: int = 4) -> Table:
    B, T, D, NH = s
    U = ceil(1.3 * D / 64) * 64
    return {
        "norm.normed": B * T * D,
        "norm.scale": B * T,
        "layer.gates[0, 1].x, layer.silu.y": B * T * D,
        "layer.gates[2, 3].x": B * T * D,
        "layer.conv.padded": B * (K - 1 + T) * D,
        "layer.silu.s": B * T * D,
        "layer.scan.gates": B * T * 4 * D,
        "layer.scan.states": B * (T + 1) * 4 * D,
        "layer.scan.units": B * D,
        "layer.scan.ends": 2 * B,
        "layer.norm.normed": B * T * D,
        "layer.norm.scale": B * T * NH,
        **feed_forward(s, U, gelu=True),
    }


def large_block(s: Sizes) -> Table:
    B, T, D, NH = s
    QK, V, U = D // 2, D, ceil(2.6667 * D / 64) * 64
    return {
        "norm.normed": B * T * D,
        "norm.scale": B * T,
        "layer.qkvo.x, layer.gates.x": B * T * D,
        "layer.capped": 2 * B * T * NH,
        "layer.mlstm.q": B * T * QK,
        **memory(s, QK // NH, V // NH),
        "layer.norm.normed": B * T * V,
        "layer.norm.scale": B * T * NH,
        "layer.normed": B * T * V,
        "layer.output_gate": B * T * V,
        "layer.sigmoid[0]": B * T * V,
        "layer.out.x": B * T * V,
        **feed_forward(s, U),
    }


def around_the_blocks(s: Sizes) -> Table:
    """Return the residuals of a model, without those of its blocks, tokens and states."""
    B, T, D, _ = s
    return {
        "body.norm.normed": B * T * D,
        "body.norm.scale": B * T,
        "head.x": B * T * D,
    }


# Arrays in caches


def leaves(name: str, tree: Any) -> Iterator[tuple[str, Array]]:
    """Yield all arrays of a cache, with names."""
    if isinstance(tree, np.ndarray):
        yield name, tree
    elif hasattr(tree, "_fields"):
        for field, value in zip(tree._fields, tree, strict=True):
            yield from leaves(f"{name}.{field}", value)
    elif dataclasses.is_dataclass(tree):
        for entry in dataclasses.fields(tree):
            yield from leaves(f"{name}.{entry.name}", getattr(tree, entry.name))
    elif isinstance(tree, tuple | list):
        for n, value in enumerate(tree):
            yield from leaves(f"{name}[{n}]", value)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(f"{name}[{key!r}]", value)


def owner(array: Array) -> Array:
    """Return the array that owns the memory of ``array``."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def address(array: Array) -> int:
    return int(owner(array).__array_interface__["data"][0])


def saved(cache: Any, params: Mapping[str, Array]) -> dict[str, int]:
    """Return names and bytes of the buffers of a cache, each once, without those of parameters."""
    seen, found = {address(array) for array in params.values()}, {}
    for name, array in leaves("", cache):
        if address(array) not in seen:
            seen.add(address(array))
            found[name] = owner(array).nbytes
    return found


def assert_documented(cache: Any, params: Mapping[str, Array], table: Table) -> None:
    found, itemsize = saved(cache, params), np.dtype(np.float32).itemsize
    got, expected = sum(found.values()), sum(table.values()) * itemsize
    assert abs(got - expected) <= 0.02 * expected, (
        f"{got:,} bytes are saved, {expected:,} documented\n"
        + "\n".join(f"{size:12,} {name}" for name, size in found.items())
        + "\ndocumented\n"
        + "\n".join(f"{size * itemsize:12,} {name}" for name, size in table.items())
    )


def inner_cache(block: Any, s: Sizes) -> Any:
    """Return the cache of a block."""
    x = np.random.default_rng(1).standard_normal((s.B, s.T, s.D)).astype(np.float32)
    return block.forward(x)[2]


def test_shared_memory_counts_once_and_parameters_do_not_count() -> None:
    weight, x = np.zeros((2, 3)), np.zeros((4, 5))
    cache = (x, [x[1:], {"t": x.T}], np.zeros(7), weight[0], None)
    assert saved(cache, {"weight": weight}) == {"[0]": 160, "[2]": 56}


def test_a_view_of_a_part_counts_with_all_that_it_keeps() -> None:
    assert saved((np.zeros((4, 10))[:, :2],), {}) == {"[0]": 320}


@pytest.mark.parametrize("s", SIZES, ids=str)
def test_an_mlstm_block_saves_what_is_documented(s: Sizes) -> None:
    config = mLSTMBlockConfig(mLSTMLayerConfig(embedding_dim=s.D, num_heads=s.NH))
    block = mLSTMBlock(config, dtype=np.float32, rng=np.random.default_rng(0))
    assert_documented(inner_cache(block, s), block.params, mlstm_block(s))


@pytest.mark.parametrize("s", SIZES, ids=str)
def test_an_slstm_block_saves_what_is_documented(s: Sizes) -> None:
    config = sLSTMBlockConfig(sLSTMLayerConfig(embedding_dim=s.D, num_heads=s.NH))
    block = sLSTMBlock(config, dtype=np.float32, rng=np.random.default_rng(0))
    assert_documented(inner_cache(block, s), block.params, slstm_block(s))


@pytest.mark.parametrize("s", SIZES, ids=str)
@pytest.mark.parametrize("mode", ["single", "fused"])
def test_a_block_of_xlstm_large_saves_what_is_documented(s: Sizes, mode: Any) -> None:
    config = xLSTMLargeConfig(
        embedding_dim=s.D, num_heads=s.NH, num_blocks=1, vocab_size=2, weight_mode=mode
    )
    block = xLSTMLargeBlock(config, dtype=np.float32, rng=np.random.default_rng(0))
    assert_documented(inner_cache(block, s), block.params, large_block(s))


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("mlstm-block", mlstm_block),
        ("slstm-block", slstm_block),
        ("xlstm-large-block", large_block),
    ],
)
def test_the_pages_name_the_sums(page: str, table: Callable[[Sizes], Table]) -> None:
    total = 4 * sum(table(SIZES[0]).values())
    assert f"this is {total:,} bytes" in (DOCS / f"{page}.md").read_text("utf-8")


def mixed_model(s: Sizes, vocab_size: int) -> xLSTMLMModel:
    """Make a model of four blocks, one of which is an sLSTM block."""
    config = xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(mLSTMLayerConfig(num_heads=s.NH)),
        slstm_block=sLSTMBlockConfig(sLSTMLayerConfig(num_heads=s.NH)),
        num_blocks=4,
        embedding_dim=s.D,
        slstm_at=[1],
        vocab_size=vocab_size,
    )
    return xLSTMLMModel(config, dtype=np.float32, rng=np.random.default_rng(0))


def mixed_model_bytes(s: Sizes) -> int:
    """Return the documented size of the residuals of :func:`mixed_model`."""
    tables = [mlstm_block(s)] * 3 + [slstm_block(s), around_the_blocks(s)]
    return 4 * sum(sum(table.values()) for table in tables)


@pytest.mark.parametrize("s", SIZES, ids=str)
def test_a_model_saves_what_is_documented(s: Sizes) -> None:
    model, tokens = mixed_model(s, 64), np.zeros((s.B, s.T), np.int64)
    *_, cache = model.forward(tokens)
    got, expected = sum(saved(cache, model.params).values()), mixed_model_bytes(s)
    assert abs(got - expected) <= 0.02 * expected


@pytest.mark.parametrize("s", SIZES, ids=str)
def test_a_training_step_needs_little_more_than_what_is_saved(s: Sizes) -> None:
    V = 64
    model, rng = mixed_model(s, V), np.random.default_rng(2)
    tokens, targets = rng.integers(0, V, (2, s.B, s.T))

    def training_step() -> dict[str, Array]:
        logits, _, cache = model.forward(tokens)
        _, loss_cache = softmax_cross_entropy(logits, targets)
        dlogits = softmax_cross_entropy_backward(1.0, loss_cache)
        _, _, grads = model.backward(dlogits, cache)
        return grads

    training_step()  # do not count what is made once
    tracemalloc.start()
    try:
        grads = training_step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    needed = mixed_model_bytes(s) + sum(4 * prod(grad.shape) for grad in grads.values())
    assert peak <= 1.5 * needed, f"{peak / needed:.2f} times {needed:,} bytes"
