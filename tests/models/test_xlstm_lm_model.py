"""The xLSTM paper's language model: initial values, parts and checkpoints."""

import re
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import xLSTMLMModel
from numpy_xlstm.errors import NonFiniteError, ShapeError
from numpy_xlstm.numerics import Array
from tests.models.build import (
    B,
    V,
    assert_same,
    build,
    draw_tokens,
    lm_config,
    make,
    mlstm_block,
    slstm_block,
)

R, BIAS = "_recurrent_kernel_", "_bias_"
CELL = "xlstm_block_stack.blocks.1.xlstm.slstm_cell"


def assert_deviation(array: Array, expected: float) -> None:
    """Check mean 0 and the standard deviation, each within five of its standard errors."""
    assert abs(array.mean()) < 5 * expected / np.sqrt(array.size)
    assert abs(array.std() / expected - 1) < 5 / np.sqrt(2 * array.size)


# Initial values

D, BLOCKS = 64, 4
SMALL, WANG = np.sqrt(2 / (5 * D)), 2 / (BLOCKS * np.sqrt(D))
"""Deviations of small init, and of Wang init for maps into the residual stream."""

START = {
    r"token_embedding\.weight|lm_head\.weight|ffn\.proj_up\.weight": SMALL,
    r"xlstm\.(proj_up|[qkv]_proj|[fizo]gate)\.weight": SMALL,
    r"proj_down\.weight": WANG,
    r"learnable_skip": "1",
    r".*norm\.weight": "0",  # a norm's weight is stored without its 1
    r"(xlstm\.(proj_up|[qkv]_proj)|ffn\.proj_up|proj_down)\.bias": "0",
    r"mlstm_cell\.[if]gate\.weight|_recurrent_kernel_": "0",
    r"mlstm_cell\.[if]gate\.bias|_bias_|conv1d\.conv\.(weight|bias)": "tested below",
}
"""Deviation or constant of the parameters whose names end like this."""


@pytest.fixture(scope="module")
def fresh() -> xLSTMLMModel:
    config = lm_config(
        embedding_dim=D,
        vocab_size=300,
        num_blocks=BLOCKS,
        slstm_at=[1, 3],
        bias=True,
        mlstm_block=mlstm_block(num_heads=4, proj_factor=2.0),
        slstm_block=slstm_block(num_heads=4, ffn={"bias": True}),
    )
    return xLSTMLMModel(config, rng=np.random.default_rng(1))


def test_every_parameter_starts_as_documented(fresh: xLSTMLMModel) -> None:
    for name, array in fresh.params.items():
        (start,) = [value for end, value in START.items() if re.search(f"({end})$", name)]
        if isinstance(start, float):
            assert_deviation(array, start)
        elif start != "tested below":
            assert (array == float(start)).all(), name


def test_gates_of_the_memory(fresh: xLSTMLMModel) -> None:
    cell = "xlstm_block_stack.blocks.0.xlstm.mlstm_cell"
    np.testing.assert_array_equal(fresh.params[f"{cell}.fgate.bias"], [3, 4, 5, 6])
    heads = 96
    config = lm_config(
        embedding_dim=heads, mlstm_block=mlstm_block(num_heads=heads, proj_factor=1.0)
    )
    wide = xLSTMLMModel(config, rng=np.random.default_rng(2))
    assert_deviation(wide.params[f"{cell}.igate.bias"], 0.1)
    np.testing.assert_allclose(wide.params[f"{cell}.fgate.bias"], np.linspace(3, 6, heads))


def test_convolutions(fresh: xLSTMLMModel) -> None:
    """Uniform in ±1/√K, weight and bias."""
    for n in (0, 1):
        for name in ("weight", "bias"):
            array = fresh.params[f"xlstm_block_stack.blocks.{n}.xlstm.conv1d.conv.{name}"]
            assert np.abs(array).max() <= 0.5
            assert abs(array.mean()) < 5 * 0.5 / np.sqrt(3 * array.size)
            assert array.std() == pytest.approx(0.5 / np.sqrt(3), rel=0.2)


@pytest.mark.parametrize(("block", "power"), [(1, 0.3 + 1.3 / 3), (3, 1.6)])
def test_forget_biases_fall_by_a_power_law(fresh: xLSTMLMModel, block: int, power: float) -> None:
    """Forget biases run from 5 to −7 over each head, with a power by block; other gates are 0."""
    bias = fresh.params[f"xlstm_block_stack.blocks.{block}.xlstm.slstm_cell._bias_"]
    i, f, z, o = bias.reshape(4, 4, 16)
    np.testing.assert_allclose(f, np.tile(5 - 12 * (np.arange(16) / 15) ** power, (4, 1)))
    assert f[0, 0] == 5
    assert f[0, -1] == -7
    assert not np.concatenate((i, z, o)).any()


def test_a_forget_bias_of_a_single_block_or_unit() -> None:
    """One block counts as the first; a head of width 1 starts at 5."""
    for width, expected in (
        (8, [5, 5 - 12 * (1 / 3) ** 0.3, 5 - 12 * (2 / 3) ** 0.3, -7]),
        (2, [5]),
    ):
        config = lm_config(slstm_at="all", num_blocks=1, embedding_dim=width)
        bias = xLSTMLMModel(config).params[f"{CELL.replace('.1.', '.0.')}.{BIAS}"]
        np.testing.assert_allclose(bias.reshape(4, 2, -1)[1], [expected, expected])


@pytest.mark.parametrize("kind", ["small_init", "zeros", "standard"])
def test_other_starts_of_the_bias(kind: str) -> None:
    options: dict[str, Any] = {"bias_init": kind, "recurrent_weight_init": "standard"}
    config = lm_config(
        embedding_dim=D, slstm_at=[1], slstm_block=slstm_block(num_heads=4, **options)
    )
    params = xLSTMLMModel(config, rng=np.random.default_rng(3)).params
    i, f, z, o = params[f"{CELL}.{BIAS}"].reshape(4, 4, 16)
    rest = np.concatenate((i, z, o))
    if kind == "standard":
        everything = np.concatenate((rest, f)).ravel()
        assert np.abs(everything).max() <= 1 / 8
        assert everything.std() == pytest.approx(1 / (8 * np.sqrt(3)), rel=0.15)
    else:
        assert not rest.any()
        expected = np.linspace(3, 6, 16) if kind == "small_init" else np.zeros(16)
        np.testing.assert_allclose(f, np.tile(expected, (4, 1)))
    kernel = params[f"{CELL}.{R}"]
    assert kernel.shape == (4, 64, 16)
    assert np.abs(kernel).max() <= 1 / 8
    assert kernel.std() == pytest.approx(1 / (8 * np.sqrt(3)), rel=0.05)


# Checkpoints


def test_a_tied_head_is_in_the_state_dict_and_not_among_the_parameters() -> None:
    model = build("tied")
    assert "lm_head.weight" not in model.params
    arrays = model.state_dict()
    np.testing.assert_array_equal(arrays["lm_head.weight"], arrays["token_embedding.weight"])
    assert not np.shares_memory(arrays["lm_head.weight"], arrays["token_embedding.weight"])
    other = build("tied", seed=2)
    arrays.pop("lm_head.weight")
    other.load_state_dict(arrays)
    assert_same(other.params, model.params)


def test_a_tied_head_that_is_not_the_embedding_is_refused() -> None:
    model = build("tied")
    arrays = build("tied", seed=2).state_dict()
    arrays["lm_head.weight"][0, 0] += 1
    before = {name: array.copy() for name, array in model.params.items()}
    message = r"lm_head\.weight: expected the same numbers as token_embedding\.weight; got others"
    with pytest.raises(ShapeError, match=message):
        model.load_state_dict(arrays)
    arrays.pop("token_embedding.weight")
    with pytest.raises(ShapeError, match=r"expected \['token_embedding\.weight'\] too"):
        model.load_state_dict(arrays)
    assert_same(model.params, before)


def test_tied_weights_are_one_matrix() -> None:
    model = build("tied")
    assert model.tied
    assert model.head.params["weight"] is model.params["token_embedding.weight"]
    clone = model.with_params({name: 2 * array for name, array in model.params.items()})
    assert clone.head.params["weight"] is clone.params["token_embedding.weight"]
    assert not build("mixed").tied


def test_the_order_of_the_cuda_backend_is_put_right() -> None:
    """R is (NH, DH in, gate, DH out) there, and b (NH, gate, DH), in two or three dimensions."""
    model, other = build("mixed"), build("mixed", seed=2)
    arrays = model.state_dict()
    kernel, bias = arrays[f"{CELL}.{R}"], arrays[f"{CELL}.{BIAS}"]
    NH, DH = 2, 4
    cuda = np.empty((NH, DH, 4, DH))
    for head, gate, into, out in np.ndindex(NH, 4, DH, DH):
        cuda[head, into, gate, out] = kernel[head, gate * DH + out, into]
    heads = np.empty((NH, 4, DH))
    for gate, head, unit in np.ndindex(4, NH, DH):
        heads[head, gate, unit] = bias[(gate * NH + head) * DH + unit]
    for shape in ((-1,), (NH, 4, DH)):
        arrays[f"{CELL}.{R}"] = cuda.reshape(NH, DH, 4 * DH)
        arrays[f"{CELL}.{BIAS}"] = heads.reshape(shape)
        other.load_state_dict(arrays)
        assert_same(other.params, model.params)
        other.params[f"{CELL}.{R}"][...] = 0


def test_other_float_dtypes_are_cast() -> None:
    model = build("mixed")
    arrays = {name: array.astype(np.float16) for name, array in model.state_dict().items()}
    model.load_state_dict(arrays)
    for name, array in model.params.items():
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, arrays[name].astype(np.float64))
    model.load_state_dict({name: array.tolist() for name, array in arrays.items()})


def test_numbers_that_do_not_fit_the_dtype_are_refused() -> None:
    model = build("mixed", dtype=np.float32)
    arrays = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    arrays["lm_head.weight"][0, 0] = 1e300
    with np.errstate(over="ignore"), pytest.raises(NonFiniteError, match=r"lm_head\.weight"):
        model.load_state_dict(arrays)


def test_a_vocabulary_of_one_token() -> None:
    model = make(lm_config(vocab_size=1))
    assert model(np.zeros((B, 3), int))[0].shape == (B, 3, 1)
    assert build("mixed")(draw_tokens())[0].shape == (B, 5, V)
