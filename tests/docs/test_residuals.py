"""The tables of residuals on the block pages: names and sizes of every array of a cache."""

import re
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from math import ceil
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
from numpy_xlstm.trees import places

PAGES = Path(__file__).parents[2] / "docs" / "blocks"
OF_THE_LAYER = ("memory", "mlstm", "projections")
"""Names that are written without ``layer.`` behind another name of the layer."""
F32 = np.dtype(np.float32)
V = 64


class Sizes(NamedTuple):
    """Sizes of a batch and of a block."""

    B: int
    T: int
    D: int
    NH: int


SIZES = [Sizes(4, 256, 128, 4), Sizes(2, 100, 64, 2)]
EVERY_SIZE = pytest.mark.parametrize("s", SIZES, ids=str)


def large(s: Sizes, mode: Any = "single") -> xLSTMLargeBlock:
    config = xLSTMLargeConfig(
        embedding_dim=s.D, num_heads=s.NH, num_blocks=1, vocab_size=2, weight_mode=mode
    )
    return xLSTMLargeBlock(config, dtype=F32)


def mlstm(s: Sizes) -> mLSTMBlockConfig:
    return mLSTMBlockConfig(mLSTMLayerConfig(embedding_dim=s.D, num_heads=s.NH))


def slstm(s: Sizes) -> sLSTMBlockConfig:
    return sLSTMBlockConfig(sLSTMLayerConfig(embedding_dim=s.D, num_heads=s.NH))


BLOCKS: dict[str, Callable[[Sizes], Any]] = {
    "mlstm-block": lambda s: mLSTMBlock(mlstm(s), dtype=F32),
    "slstm-block": lambda s: sLSTMBlock(slstm(s), dtype=F32),
    "xlstm-large-block": large,
    "xlstm-large-block, fused": lambda s: large(s, "fused"),
}


def symbols(page: str, s: Sizes) -> dict[str, int]:
    """Return the numbers for the symbols of a page."""
    _, T, D, NH = s
    chunks = ceil(T / CHUNK_SIZE)
    factor = 1.3 if page == "slstm-block" else 2.6667
    widths = {"I": 2 * D, "D_H": 2 * D // NH, "D_K": D // 2 // NH, "D_V": D // NH}
    widths["U"] = ceil(factor * D / 64) * 64
    return widths | {"D": D, "N_H": NH, "K": 4, "T": T, "L": T // chunks, "chunks": chunks}


def rows(page: str) -> Iterator[tuple[list[str], str]]:
    """Yield names in full, such as ``layer.gates[0, 1].x``, and numbers of each row."""
    text = (PAGES / f"{page}.md").read_text("utf-8")
    for line in text.split("| in the cache |")[1].split("\n\n")[0].splitlines()[2:]:
        names = list[str]()
        first, _, numbers = line.strip("| ").split(" | ")
        for name in re.findall(r"`([^`]+)`", first):
            if name.startswith("."):
                name = names[-1].rpartition(".")[0] + name
            elif re.split(r"\W", name)[0] in OF_THE_LAYER:
                name = f"layer.{name}"
            names.append(name)
        if "dropped" not in first:  # None without dropout
            yield names, numbers


def documented(numbers: str, page: str, s: Sizes) -> int:
    """Return the bytes of ``$2I$ per token, $D$ per row``."""
    total = 0
    for formula, unit in re.findall(r"\$([^$]+)\$ per (token|row)", numbers):
        product = formula.replace(r"\lceil T/L \rceil", "chunks")
        product = re.sub(r"(?<=\d)(?=[A-Z])|(?<=[\w)]) (?=[\w(])", "*", product)
        count = eval(product, symbols(page, s))
        total += int(F32.itemsize * count * s.B * (s.T if unit == "token" else 1))
    return total


def page_total(page: str, s: Sizes) -> int:
    return sum(documented(numbers, page, s) for _, numbers in rows(page))


def owner(array: Array) -> Array:
    """Return the array that owns the memory of ``array``."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class Buffers:
    """Arrays of a cache by place, each buffer of which is counted once, without parameters."""

    def __init__(self, cache: Any, params: Mapping[str, Array]) -> None:
        self.arrays = {n.lstrip("."): a for n, a in places("", cache) if isinstance(a, np.ndarray)}
        self.counted = {id(owner(array)) for array in params.values()}

    def count(self, named: list[str]) -> int:
        """Return the bytes of the buffers at these places that were not counted before."""
        new = {id(o): o for o in (owner(self.arrays[place]) for place in named)}
        total = sum(array.nbytes for key, array in new.items() if key not in self.counted)
        self.counted |= new.keys()
        return total


def test_shared_memory_counts_once_and_parameters_do_not_count() -> None:
    weight, x = np.zeros((2, 3)), np.zeros((4, 5))
    buffers = Buffers((x, [x[1:], {"t": x.T}], np.zeros(7), weight[0], None), {"weight": weight})
    assert buffers.count(["1.0"]) == 160  # all that the view keeps
    assert buffers.count(list(buffers.arrays)) == 56


@EVERY_SIZE
@pytest.mark.parametrize("name", BLOCKS)
def test_the_table_is_the_cache(name: str, s: Sizes) -> None:
    block, page = BLOCKS[name](s), name.split(",")[0]
    x = np.random.default_rng(0).standard_normal((s.B, s.T, s.D)).astype(F32)
    buffers = Buffers(block.forward(x)[2].kept, block.params)
    for names, numbers in rows(page):
        named = list[str]()
        for entry in names:
            pattern = re.sub(r"\\\[(\d)(?:,\\ (\d))?\\\]", r"\\.[\1\2]", re.escape(entry))
            pattern = rf"{pattern}(\.\d+)?(\.x)?"
            here = [place for place in buffers.arrays if re.fullmatch(pattern, place)]
            assert here, f"{entry} is not in the cache"
            named += here
        assert buffers.count(named) == documented(numbers, page, s), names
    assert buffers.count(list(buffers.arrays)) == 0


@pytest.mark.parametrize("page", ["mlstm-block", "slstm-block", "xlstm-large-block"])
def test_the_pages_name_the_sums(page: str) -> None:
    assert f"is {page_total(page, SIZES[0]):,} bytes" in (PAGES / f"{page}.md").read_text("utf-8")


def mixed_model(s: Sizes) -> tuple[xLSTMLMModel, int]:
    """Return a model of four blocks, one of which is an sLSTM block, and its documented bytes."""
    config = xLSTMLMModelConfig(
        mlstm_block=mlstm(s),
        slstm_block=slstm(s),
        num_blocks=4,
        embedding_dim=s.D,
        slstm_at=[1],
        vocab_size=V,
    )
    around = F32.itemsize * s.B * s.T * (2 * s.D + 1)  # x of the head; x̂ and 1/σ of its norm
    blocks = 3 * page_total("mlstm-block", s) + page_total("slstm-block", s)
    return xLSTMLMModel(config, dtype=F32, rng=np.random.default_rng(0)), around + blocks


@EVERY_SIZE
def test_a_model_saves_what_is_documented(s: Sizes) -> None:
    model, expected = mixed_model(s)
    buffers = Buffers(model.forward(np.zeros((s.B, s.T), np.int64))[2], model.params)
    assert abs(buffers.count(list(buffers.arrays)) - expected) <= 0.02 * expected


@EVERY_SIZE
def test_a_training_step_needs_little_more_than_what_is_saved(s: Sizes) -> None:
    (model, needed), rng = mixed_model(s), np.random.default_rng(2)
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
    needed += sum(grad.nbytes for grad in grads.values())
    assert peak <= 1.5 * needed, f"{peak / needed:.2f} times {needed:,} bytes"
