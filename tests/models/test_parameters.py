"""Parameters and state dicts of models."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.models import LanguageModel
from tests.models.build import CONFIGS, EVERY_MODEL, MAIN_MODELS, assert_same, build, draw_tokens

R, BIAS = "_recurrent_kernel_", "_bias_"
CELL = "xlstm_block_stack.blocks.1.xlstm.slstm_cell"

# Parameters


@EVERY_MODEL
def test_with_params_replaces_every_part_in_any_order(name: str) -> None:
    model, other, tokens = build(name), build(name, seed=20), draw_tokens()
    clone = model.with_params(dict(reversed(dict(other.params).items())))
    assert all(clone.params[key] is array for key, array in other.params.items())
    (logits, _, cache), (expected, _, kept) = (m.forward(tokens) for m in (clone, other))
    np.testing.assert_array_equal(logits, expected)
    assert np.abs(model(tokens)[0] - logits).max() > 1e-3
    dlogits = np.random.default_rng(3).standard_normal(logits.shape)
    assert_same(clone.backward(dlogits, cache)[2], other.backward(dlogits, kept)[2])
    with pytest.raises(ShapeError, match="weight"):
        model.with_params({**model.params, "weight": np.zeros(2)})


@MAIN_MODELS
def test_a_written_parameter_is_read(name: str) -> None:
    model = build(name)
    before = model(draw_tokens())[0]
    for key, array in model.params.items():
        kept = array.copy()
        array += 0.1
        assert np.abs(model(draw_tokens())[0] - before).max() > 0, key
        array[...] = kept
    np.testing.assert_array_equal(model(draw_tokens())[0], before)


@EVERY_MODEL
def test_a_seed_repeats(name: str) -> None:
    config = CONFIGS[name]()
    kind: Callable[..., LanguageModel] = type(build(name))
    first, same, other = (kind(config, rng=np.random.default_rng(s)) for s in (1, 1, 2))
    assert_same(same.params, first.params)
    assert any((other.params[key] != array).any() for key, array in first.params.items())
    narrow = kind(config, rng=np.random.default_rng(1), dtype=np.float32)
    for key, array in first.params.items():
        np.testing.assert_array_equal(narrow.params[key], array.astype(np.float32))


@EVERY_MODEL
def test_the_tree_of_a_model_names_everything(name: str) -> None:
    model = build(name)
    drawn = str(model)
    assert drawn.splitlines()[0] == f"{type(model).__name__}  {model.num_parameters:,}"
    assert model.num_parameters == sum(a.size for a in model.params.values())
    for key, array in model.params.items():
        leaf = key.rsplit(".", 1)[-1]
        assert f"{leaf}  {array.shape} float64  {array.size:,}" in drawn


def test_a_tied_head_follows_its_embedding() -> None:
    rng = np.random.default_rng(0)
    model = LanguageModel(5, 4, LSTM(4, 4, rng=rng), tied=True, rng=rng)
    tokens, new = np.array([[1, 2, 3]]), rng.standard_normal((5, 4))
    clone = model.with_params({**model.params, "embedding.weight": new})
    assert (model.tied, build("mixed").tied) == (True, False)
    assert clone.head.params["weight"] is clone.params["embedding.weight"]
    expected = clone(tokens)[0]
    assert not np.array_equal(model(tokens)[0], expected)
    model.params["embedding.weight"][...] = new
    np.testing.assert_array_equal(model(tokens)[0], expected)
    step = model.prepared().step(tokens[:, 0], model.init_state(1))
    np.testing.assert_allclose(step[0], expected[:, 0], rtol=1e-12)
    model.params["embedding.weight"][...] = 0
    assert not model(tokens)[0].any()


# State dicts


@EVERY_MODEL
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_dict_goes_round(name: str, dtype: Any) -> None:
    model, other = build(name, dtype=dtype), build(name, dtype=dtype, seed=22)
    arrays = model.state_dict()
    live = {key: id(array) for key, array in other.params.items()}
    other.load_state_dict(arrays)
    assert_same(other.params, model.params)
    assert {key: id(array) for key, array in other.params.items()} == live
    for array in arrays.values():
        array[...] = 5.0
    assert_same(other.params, model.params)


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
