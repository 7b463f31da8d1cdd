"""Initial values of both language models, by the names of their parameters."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import xLSTMLarge, xLSTMLargeConfig, xLSTMLMModel, xLSTMLMModelConfig
from numpy_xlstm.numerics import Array
from tests.models.build import large_config, lm_config, mlstm_block, slstm_block
from tests.samples import is_normal, is_uniform

D, NUM_BLOCKS = 64, 4
CELL = "xlstm_block_stack.blocks.{}.xlstm.slstm_cell._bias_"


def fresh(config: xLSTMLMModelConfig | xLSTMLargeConfig) -> Any:
    kind: Any = xLSTMLarge if isinstance(config, xLSTMLargeConfig) else xLSTMLMModel
    return kind(config, rng=np.random.default_rng(1)).params


def equal(values: Any, array: Array) -> bool:
    return array.shape[-1:] == np.shape(values)[-1:] and bool((array == values).all())


def constant(value: float, array: Array) -> bool:
    return bool((array == value).all())


def by_maps(array: Array) -> bool:
    """Return whether q, k, v and the output gate, fused in one matrix, have small init each."""
    return all(small(part) for part in np.split(array, [D // 2, D, 2 * D]))


def power_law(array: Array) -> bool:
    """Return whether forget biases run from 5 to −7 over each head, and others are 0."""
    i, f, z, o = array.reshape(4, 4, D // 4)
    ends = (f[:, 0] == 5).all() and (f[:, -1] == -7).all() and (np.diff(f) < 0).all()
    return bool(ends) and not np.concatenate((i, z, o)).any()


small = partial(is_normal, np.sqrt(2 / (5 * D)))
wang = partial(is_normal, 2 / (NUM_BLOCKS * np.sqrt(D)))  # of maps into the residual stream
zero, one = partial(constant, 0), partial(constant, 1)

PAPER: dict[str, Callable[[Array], bool]] = {
    r"token_embedding\.weight|lm_head\.weight|ffn\.proj_up\.weight": small,
    r"xlstm\.(proj_up|[qkv]_proj|[fizo]gate)\.weight": small,
    r"proj_down\.weight": wang,
    r"learnable_skip": one,
    r".*norm\.weight": zero,  # a norm's weight is stored without its 1
    r"(xlstm\.(proj_up|[qkv]_proj)|ffn\.proj_up|proj_down)\.bias": zero,
    r"mlstm_cell\.[if]gate\.weight|_recurrent_kernel_": zero,
    r"mlstm_cell\.fgate\.bias": partial(equal, [3, 4, 5, 6]),
    r"mlstm_cell\.igate\.bias": partial(is_normal, 0.1),
    r"conv1d\.conv\.(weight|bias)": partial(is_uniform, 0.5),  # 1/√K
    r"_bias_": power_law,
}
GATES = [-10] * 4 + [3, 4, 5, 6]
LARGE: dict[str, Callable[[Array], bool]] = {
    r"(embedding|lm_head|\.[qkv]|ogate_preact|proj_up\w*)\.weight": small,
    r"qkv_opreact\.weight": by_maps,
    r"(out_proj|proj_down)\.weight": wang,
    r"norm\w*\.weight": one,
    r"\.(i|f|if)gate_preact\.weight": zero,
    r"\.igate_preact\.bias": partial(equal, GATES[:4]),
    r"\.fgate_preact\.bias": partial(equal, GATES[4:]),
    r"\.ifgate_preact\.bias": partial(equal, GATES),
    r"(norm\w*|\.[qkv]|qkv_opreact|ogate_preact|proj_up\w*|out_proj|proj_down)\.bias": zero,
}


def paper(**options: Any) -> xLSTMLMModelConfig:
    return lm_config(
        embedding_dim=D,
        num_blocks=NUM_BLOCKS,
        slstm_at=[1, 3],
        slstm_block=slstm_block(num_heads=4, ffn={"bias": True}, **options),
        mlstm_block=mlstm_block(num_heads=4, proj_factor=2.0),
        vocab_size=300,
        bias=True,
    )


def large(mode: str) -> xLSTMLargeConfig:
    sizes = {"embedding_dim": D, "num_blocks": NUM_BLOCKS, "num_heads": 4, "vocab_size": 200}
    return large_config(**sizes, use_bias=True, weight_mode=mode)


@pytest.mark.parametrize(
    ("config", "starts"),
    [(paper(), PAPER), (large("single"), LARGE), (large("fused"), LARGE)],
    ids=["paper", "single", "fused"],
)
def test_every_parameter_starts_as_documented(
    config: Any, starts: dict[str, Callable[[Array], bool]]
) -> None:
    for name, array in fresh(config).items():
        (check,) = [check for end, check in starts.items() if re.search(f"({end})$", name)]
        assert check(array), name


def test_many_heads_of_an_mlstm() -> None:
    block = mlstm_block(num_heads=96, proj_factor=1.0)
    params = fresh(lm_config(embedding_dim=96, mlstm_block=block))
    cell = "xlstm_block_stack.blocks.0.xlstm.mlstm_cell"
    assert is_normal(0.1, params[f"{cell}.igate.bias"])
    np.testing.assert_allclose(params[f"{cell}.fgate.bias"], np.linspace(3, 6, 96))


def test_forget_biases_fall_by_a_power_law() -> None:
    """The power rises with the block; one block is the first, and a head of width 1 starts at 5."""
    params = fresh(paper())
    for block, power in ((1, 0.3 + 1.3 / 3), (3, 1.6)):
        f = params[CELL.format(block)].reshape(4, 4, 16)[1]
        np.testing.assert_allclose(f, np.tile(5 - 12 * (np.arange(16) / 15) ** power, (4, 1)))
    steps = np.arange(4) / 3
    for width, expected in ((8, 5 - 12 * steps**0.3), (2, np.full(1, 5))):
        single = fresh(lm_config(slstm_at="all", num_blocks=1, embedding_dim=width))
        f = single[CELL.format(0)].reshape(4, 2, -1)[1]
        np.testing.assert_allclose(f, [expected, expected])


@pytest.mark.parametrize("kind", ["small_init", "zeros", "standard"])
def test_other_starts_of_the_bias(kind: str) -> None:
    params = fresh(paper(bias_init=kind, recurrent_weight_init="standard"))
    i, f, z, o = params[CELL.format(1)].reshape(4, 4, 16)
    rest = np.concatenate((i, z, o))
    if kind == "standard":
        assert is_uniform(1 / 8, np.concatenate((rest, f)))
    else:
        assert not rest.any()
        expected = np.linspace(3, 6, 16) if kind == "small_init" else np.zeros(16)
        np.testing.assert_allclose(f, np.tile(expected, (4, 1)))
    kernel = params[CELL.format(1).replace("_bias_", "_recurrent_kernel_")]
    assert kernel.shape == (4, 64, 16)
    assert is_uniform(1 / 8, kernel)
