from typing import Any

import numpy as np
import pytest

from numpy_xlstm import sLSTM
from numpy_xlstm.models import (
    LanguageModel,
    mLSTMBlockConfig,
    sLSTMBlockConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
)
from numpy_xlstm.training import AdamW, TrainingState, decay_rule
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


def decaying(model: Any) -> set[str]:
    decays = decay_rule(model)
    return {name for name, array in model.params.items() if decays(name, array)}


def matrices(model: Any) -> set[str]:
    return {name for name, array in model.params.items() if array.ndim >= 2}


def test_all_weights_of_the_first_paper_s_model_decay_but_those_of_recurrence() -> None:
    model = xlstm()
    others = {
        "token_embedding.weight",
        "xlstm_block_stack.blocks.1.xlstm.slstm_cell._recurrent_kernel_",
    }
    assert others < matrices(model)
    assert decaying(model) == matrices(model) - others


def test_its_embedding_decays_if_configured() -> None:
    extra = decaying(xlstm(weight_decay_on_embedding=True)) - decaying(xlstm())
    assert extra == {"token_embedding.weight"}


def test_all_matrices_of_xlstm_large_decay_but_the_embedding() -> None:
    assert decaying(large()) == matrices(large()) - {"embedding.weight"}
    assert "lm_head.weight" in decaying(large())


def test_all_matrices_decay_around_a_cell() -> None:
    assert decaying(cell()) == {"embedding.weight", "cell.W", "cell.R", "head.weight"}


@pytest.mark.parametrize("build", [xlstm, large, cell])
def test_the_rule_comes_back_with_the_kind_of_model(build: Any, tmp_path: Any) -> None:
    model = build()
    TrainingState(model, AdamW(model.params), np.random.default_rng(0)).save(tmp_path / "a.npz")
    optimizer = TrainingState.load(tmp_path / "a.npz")[0].optimizer
    assert isinstance(optimizer, AdamW)
    assert {name for name, a in model.params.items() if optimizer.decays(name, a)} == {
        name for name, a in model.params.items() if decay_rule(model)(name, a)
    }
