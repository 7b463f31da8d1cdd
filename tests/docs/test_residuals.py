"""The tables of residuals on the block pages name every array of a cache, and nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    mLSTMBlock,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlock,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMLargeBlock,
    xLSTMLargeConfig,
)
from numpy_xlstm.trees import places

PAGES = Path(__file__).parents[2] / "docs" / "blocks"
BLOCKS: dict[str, Any] = {
    "mlstm-block": lambda: mLSTMBlock(mLSTMBlockConfig(mLSTMLayerConfig(embedding_dim=32))),
    "slstm-block": lambda: sLSTMBlock(sLSTMBlockConfig(sLSTMLayerConfig(embedding_dim=32))),
    "xlstm-large-block": lambda: xLSTMLargeBlock(
        xLSTMLargeConfig(embedding_dim=32, num_heads=4, vocab_size=8, num_blocks=1)
    ),
}
OF_THE_LAYER = ("memory", "mlstm", "projections")
"""Names that are written without ``layer.`` behind another name of the layer."""


def names(page: str) -> Iterator[str]:
    """Yield the names in the table, such as ``layer.gates[0, 1].x``, in full."""
    table = (PAGES / f"{page}.md").read_text("utf-8").split("| in the cache |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        before = ""
        for name in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
            if name.startswith("."):
                name = before.rpartition(".")[0] + name
            elif re.split(r"\W", name)[0] in OF_THE_LAYER:
                name = f"layer.{name}"
            before = name
            yield name


@pytest.mark.parametrize("page", BLOCKS)
def test_the_table_is_the_cache(page: str) -> None:
    block = BLOCKS[page]()
    x = np.random.default_rng(0).standard_normal((2, 70, 32))
    _, _, cache = block.forward(x)
    found = {place.lstrip("."): array for place, array in places("", cache.kept)}
    arrays = {place for place, array in found.items() if isinstance(array, np.ndarray)}
    parameters = block.params.values()
    left = {n for n in arrays if not any(np.shares_memory(found[n], p) for p in parameters)}
    for name in names(page):
        if "dropped" in name:  # None without dropout
            continue
        pattern = re.escape(name).replace(r"\[…\]", r"\.\d")
        pattern = re.sub(r"\\\[(\d)(?:,\\ (\d))?\\\]", r"\\.[\1\2]", pattern)
        named = {place for place in arrays if re.fullmatch(rf"{pattern}(\.\d+)?(\.x)?", place)}
        assert named, f"{name} is not in the cache"
        left -= {n for n in left for m in named if np.shares_memory(found[n], found[m])}
    assert not left
