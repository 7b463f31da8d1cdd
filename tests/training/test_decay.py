from typing import Any

import numpy as np
import pytest

from numpy_xlstm import sLSTM
from numpy_xlstm.errors import OptionError
from numpy_xlstm.models import (
    LanguageModel,
    mLSTMBlockConfig,
    sLSTMBlockConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
)
from numpy_xlstm.training import AdamW, decay_rule
from tests.models.build import lm_config


def xlstm(**options: Any) -> xLSTMLMModel:
    config = lm_config(
        mlstm_block=mLSTMBlockConfig(), slstm_block=sLSTMBlockConfig(), num_blocks=2, **options
    )
    return xLSTMLMModel(config, rng=np.random.default_rng(0))


def large() -> xLSTMLarge:
    config = xLSTMLargeConfig(embedding_dim=8, num_heads=2, num_blocks=1, vocab_size=5)
    return xLSTMLarge(config, rng=np.random.default_rng(0))


def cell() -> LanguageModel:
    return LanguageModel(5, 4, sLSTM(4, 8, num_heads=2))


KERNEL = "xlstm_block_stack.blocks.1.xlstm.slstm_cell._recurrent_kernel_"


@pytest.mark.parametrize(
    ("model", "others"),
    [
        (xlstm(), {"token_embedding.weight", KERNEL}),
        (xlstm(weight_decay_on_embedding=True), {KERNEL}),
        (large(), {"embedding.weight"}),
        (cell(), set()),
    ],
    ids=["xlstm", "with embedding", "large", "cell"],
)
def test_all_matrices_decay_but_these(model: Any, others: set[str]) -> None:
    decays = decay_rule(model)
    matrices = {name for name, array in model.params.items() if array.ndim >= 2}
    assert others < matrices
    assert {name for name in model.params if decays(name, model.params[name])} == matrices - others


def test_decays_that_are_set_later_are_checked() -> None:
    optimizer = AdamW({"w": np.ones((2, 2)), "b": np.ones(2)})
    for decays in ("w", {"w": True}, ["other"], [3], True):
        with pytest.raises(OptionError, match="decays: expected"):
            optimizer.decays = decays  # type: ignore[assignment]
        assert optimizer.decays == ["w"]
    optimizer.decays = lambda name, array: name == "b"
    assert optimizer.decays == ["b"]
    optimizer.decays = {"b", "w"}
    assert optimizer.options["decays"] == ["w", "b"]
