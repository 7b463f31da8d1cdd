"""Arguments and results of both official models: dtypes, copies, parameters, state dicts."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.errors import DTypeError, NonFiniteError, ShapeError
from numpy_xlstm.models import LanguageModel
from tests.models.build import (
    CONFIGS,
    EVERY_MODEL,
    MAIN_MODELS,
    B,
    T,
    V,
    assert_same,
    build,
    draw_tokens,
    flat,
    lm_config,
    make,
    run,
    slstm_block,
)
from tests.samples import draw_like, random_state

# Arguments and results


DTYPES = {
    "mixed": np.float32,
    "tied": np.float32,
    "large-single": np.float32,
    "large-fused": np.longdouble,
    "gelu_tanh": np.longdouble,
}


@pytest.mark.parametrize("name", list(DTYPES))
def test_the_dtype_is_kept(name: str) -> None:
    dtype = DTYPES[name]
    tanh = lm_config(slstm_block=slstm_block(ffn={"act_fn": "gelu_tanh"}), dropout=0.5)
    config = tanh if name == "gelu_tanh" else CONFIGS[name]()
    model, dlogits = make(config, dtype=dtype), np.ones((B, T, V), dtype)
    for recompute in (False, True):
        out = run(model, draw_tokens(), None, dlogits, None, recompute=recompute)
        assert {a.dtype for found in out for a in found.values()} == {np.dtype(dtype)}
    logits, state = model(draw_tokens())
    assert {a.dtype for a in flat(state, {"logits": logits}).values()} == {np.dtype(dtype)}
    out = run(model, draw_tokens(), None, dlogits, None, rng=np.random.default_rng(1))
    assert {a.dtype for found in out for a in found.values()} == {np.dtype(dtype)}


@MAIN_MODELS
def test_float32_is_near_float64(name: str) -> None:
    wide = build(name)
    narrow = wide.astype(np.float32)
    assert narrow(draw_tokens())[0] == pytest.approx(wide(draw_tokens())[0], abs=1e-3)


@MAIN_MODELS
def test_nothing_that_goes_in_is_changed_by_recomputation(name: str) -> None:
    model, rng = build(name), np.random.default_rng(16)
    tokens, state = draw_tokens(), random_state(model.init_state(B), rng)
    dlogits, dstate = rng.standard_normal((B, T, V)), draw_like(state, rng)
    given_in = {"tokens": tokens, "dlogits": dlogits, **model.params}
    given_in |= flat(state) | {f"d{key}": a for key, a in flat(dstate).items()}
    before = copy.deepcopy(given_in)
    logits, _, cache = model.forward(tokens, state, recompute=True)
    first = model.backward(dlogits, cache, dstate)
    second = model.backward(dlogits, cache, dstate)
    model(tokens, state)
    assert_same(given_in, before)
    assert_same(flat(*second[1:]), flat(*first[1:]))
    assert logits.shape == dlogits.shape


@MAIN_MODELS
def test_changed_gradients_do_not_change_the_cache_of_recomputation(name: str) -> None:
    model, rng = build(name), np.random.default_rng(17)
    tokens, state = draw_tokens(), random_state(model.init_state(B), rng)
    dlogits = rng.standard_normal((B, T, V))
    _, _, cache = model.forward(tokens, state, recompute=True)
    first = flat(*model.backward(dlogits, cache)[1:])
    expected = copy.deepcopy(first)
    for array in first.values():
        array[...] = 8.0
    assert_same(flat(*model.backward(dlogits, cache)[1:]), expected)


@MAIN_MODELS
@pytest.mark.parametrize(
    "steps",
    [
        0,
        1,
        T,
        40,
    ],
)
def test_evaluation_gives_a_state_of_its_own(name: str, steps: int) -> None:
    """Modifying the final state does not change the initial state."""
    model = build(name)
    state = random_state(model.init_state(B), np.random.default_rng(18))
    before = copy.deepcopy(flat(state))
    _, after = model(draw_tokens(steps), state)
    for array in flat(after).values():
        array[...] = 9.0
    assert_same(flat(state), before)


# Parameters


@EVERY_MODEL
def test_with_params_replaces_every_part(name: str) -> None:
    model, other = build(name), build(name, seed=20)
    clone = model.with_params(other.params)
    assert all(clone.params[key] is array for key, array in other.params.items())
    np.testing.assert_array_equal(clone(draw_tokens())[0], other(draw_tokens())[0])
    assert np.abs(model(draw_tokens())[0] - clone(draw_tokens())[0]).max() > 1e-3
    with pytest.raises(ShapeError, match="weight"):
        model.with_params({**model.params, "weight": np.zeros(2)})


@EVERY_MODEL
def test_the_order_of_the_parameters_does_not_matter(name: str) -> None:
    model = build(name)
    clone = model.with_params(dict(reversed(dict(model.params).items())))
    tokens = draw_tokens()
    dlogits = np.random.default_rng(3).standard_normal((*tokens.shape, model.vocab_size))
    results = []
    for other in (model, clone):
        logits, _, cache = other.forward(tokens)
        results.append((logits, other.backward(dlogits, cache)[2]))
    (logits, grads), (same_logits, same_grads) = results
    np.testing.assert_array_equal(same_logits, logits)
    for key, grad in grads.items():
        np.testing.assert_array_equal(same_grads[key], grad)


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


def refused(
    model: LanguageModel, arrays: dict[str, Any], error: type[Exception], match: str
) -> None:
    before = copy.deepcopy(dict(model.params))
    with pytest.raises(error, match=match):
        model.load_state_dict(arrays)
    assert_same(model.params, before)


@MAIN_MODELS
def test_bad_state_dicts_are_refused_and_nothing_is_copied(name: str) -> None:
    model = build(name)
    last = model.names[2] if not model.tied else model.names[0]
    key = f"{last}.weight"
    good = {k: a + 1 for k, a in build(name, seed=23).state_dict().items()}
    refused(model, {k: a for k, a in good.items() if "blocks.0" not in k}, ShapeError, "expected")
    refused(model, good | {"other.weight": np.ones(2)}, ShapeError, r"got \['other\.weight'\]")
    if model.tied:
        good.pop("lm_head.weight")
    shape = good[key].shape
    refused(model, good | {key: good[key].T}, ShapeError, rf"{key}: expected shape")
    refused(model, good | {key: np.ones(shape, int)}, DTypeError, rf"{key}: expected floating")
    refused(model, good | {key: np.ones(shape, complex)}, DTypeError, rf"{key}: .*got complex128")
    bad = good[key].copy()
    bad[0, 0] = np.nan
    refused(model, good | {key: bad}, NonFiniteError, rf"{key}: expected finite")
    refused(model, {}, ShapeError, "state_dict: expected")
