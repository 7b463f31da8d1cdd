"""What is changed after a layer was made or run: options, configurations, lists and attributes."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    LSTM,
    mLSTMBlockConfig,
    sLSTMBlockConfig,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.errors import OptionError
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array

SIZES: Any = {"num_blocks": 2, "embedding_dim": 16}
KINDS: Any = {"mlstm_block": mLSTMBlockConfig(), "slstm_block": sLSTMBlockConfig()}


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (xLSTMLMModel, partial(xLSTMLMModelConfig, vocab_size=5)),
        (xLSTMBlockStack, xLSTMBlockStackConfig),
    ],
)
def test_a_list_of_a_configuration_is_copied_and_checked_by_the_model(
    make: Any, config: Any
) -> None:
    given = config(**KINDS, **SIZES, slstm_at=[1])
    model = make(given, rng=0)
    given.slstm_at.append(0)
    assert model.config.slstm_at == [1]
    given.slstm_at.append(7)
    with pytest.raises(OptionError, match="slstm_at"):
        make(given, rng=0)


def test_an_attribute_that_is_asked_for_early_does_not_freeze_a_module() -> None:
    class Early(LSTM):
        def __init__(self) -> None:
            assert not hasattr(self, "done")
            super().__init__(3, 4, rng=0)

    assert len(Early().params) == 4


def test_a_module_may_have_an_empty_list_of_submodules() -> None:
    class Empty(Module):
        def __init__(self) -> None:
            own: dict[str, Array] = {"a": np.ones(2)}
            self.params = own
            self.blocks: list[Module] = []
            self.submodules = {"blocks": "blocks"}

    module = Empty().astype(np.float32)
    assert module.params["a"].dtype == np.float32
    assert module.named_grads(blocks=[]) == {}
