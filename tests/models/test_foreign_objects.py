"""Errors also name arguments that are not arrays at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    LSTM,
    LanguageModel,
    LayerNorm,
    load_checkpoint,
    mLSTMBlock,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    save_checkpoint,
    sLSTMBlock,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.errors import (
    DTypeError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from numpy_xlstm.generation import ByteTokenizer, generate_text
from numpy_xlstm.training import AdamW, Batch, train_step

X = np.random.default_rng(1).standard_normal((2, 3, 8))
IDS = np.array([[1, 2, 0], [2, 2, 1]])


def large(**options: Any) -> xLSTMLarge:
    config = xLSTMLargeConfig(8, num_heads=2, num_blocks=1, vocab_size=5, **options)
    return xLSTMLarge(config, rng=np.random.default_rng(0))


def mlstm_block(width: int = 8) -> mLSTMBlock:
    layer = mLSTMLayerConfig(embedding_dim=width, num_heads=2)
    return mLSTMBlock(mLSTMBlockConfig(layer), rng=np.random.default_rng(0))


def slstm_block() -> sLSTMBlock:
    layer = sLSTMLayerConfig(embedding_dim=8, num_heads=2)
    return sLSTMBlock(sLSTMBlockConfig(layer), rng=np.random.default_rng(0))


def test_caches_hold_what_the_options_of_their_models_were() -> None:
    """A model with the same weights loads them correctly for any of its own options."""
    params, rng = large().params, np.random.default_rng(3)
    options = {"gate_soft_cap": 2.0, "output_logit_soft_cap": 3.0, "eps": 0.1, "norm_eps": 0.2}
    other, dlogits = large(**options).with_params(params), rng.standard_normal((2, 3, 5))
    _, _, cache = other.forward(IDS)
    grads, same = (model.backward(dlogits, cache)[2] for model in (other, large()))
    own = large().backward(dlogits, large().forward(IDS)[2])[2]
    for name, grad in grads.items():
        np.testing.assert_array_equal(same[name], grad)
    assert max(np.abs(own[name] - grad).max() for name, grad in grads.items()) > 1e-3


def test_a_layer_without_parameters_has_no_dtype() -> None:
    assert LayerNorm(3, weight=False).dtype is None


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model, path = large(), tmp_path / "model.safetensors"
    save_checkpoint(path, model)
    before = path.read_bytes()
    model.params["lm_head.weight"][0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"lm_head.weight: expected finite numbers; got nan"):
        save_checkpoint(path, model)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    assert np.isfinite(load_checkpoint(path).model.params["lm_head.weight"]).all()


def test_ids_in_a_list() -> None:
    assert ByteTokenizer().decode([110, 195, 169]) == "né"  # type: ignore[arg-type]
    assert ByteTokenizer().decode([]) == ""  # type: ignore[arg-type]


def stack(**options: Any) -> xLSTMLMModel:
    sizes: dict[str, Any] = {"num_blocks": 2, "embedding_dim": 8, "slstm_at": [1], "vocab_size": 5}
    config = xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(mLSTMLayerConfig(num_heads=2)),
        slstm_block=sLSTMBlockConfig(sLSTMLayerConfig(num_heads=2)),
        **sizes | options,
    )
    return xLSTMLMModel(config, rng=np.random.default_rng(0))


ROWS = np.concatenate((IDS, IDS))
FLOATS: Any = IDS * 1.0
OTHER_ROWS: dict[str, tuple[Any, Callable[[Any], Any], str]] = {
    "targets": (
        Batch(IDS, ROWS),
        lambda m: None,
        r"targets: expected shape \(2, 3\); got \(4, 3\)",
    ),
    "mask": (
        Batch(IDS, IDS, np.ones((4, 3), bool)),
        lambda m: None,
        r"mask: expected shape \(2, 3\); got \(4, 3\)",
    ),
    "state": (
        Batch(IDS, IDS),
        lambda m: m.init_state(4),
        r"state.0.conv: expected 2 rows, .* \(4,",
    ),
    "floats": (
        Batch(FLOATS, IDS),
        lambda m: None,
        r"inputs: expected an array of integers; got",
    ),
    "tuple": ((IDS, IDS), lambda m: None, r"batch: expected a Batch; got tuple"),
}


@pytest.mark.parametrize("case", OTHER_ROWS)
def test_a_batch_whose_parts_are_for_other_rows(case: str) -> None:
    batch, state, message = OTHER_ROWS[case]
    model = stack()
    optimizer, before = AdamW(model.params), {n: a.copy() for n, a in model.params.items()}
    given = state(model)
    with pytest.raises((ShapeError, DTypeError, OptionError), match=message):
        train_step(model, optimizer, batch, state=given, accumulate=2)
    assert all((before[n] == a).all() for n, a in model.params.items())


@pytest.mark.parametrize("as_what", [set, np.array, tuple])
def test_banned_ids_in_any_collection(as_what: Callable[[Any], Any]) -> None:
    model, tokenizer = LanguageModel(256, 4, LSTM(4, 8)), ByteTokenizer()
    allowed = [97, 98]
    banned = as_what([k for k in range(256) if k not in allowed])
    options: dict[str, Any] = {"max_new_tokens": 30, "do_sample": True, "suppress_tokens": banned}
    text = generate_text(model, tokenizer, "a", **options, rng=np.random.default_rng(0))
    assert set(text) <= {"a", "b"}


def test_an_optimiser_that_could_fail_half_way_does_nothing() -> None:
    params = {"w": np.array([1.0, 2.0]), "z": np.ones(2)}
    params["z"].flags.writeable = False
    optimizer = AdamW(params)
    with pytest.raises(OptionError, match="z: expected an array that can be written to"):
        optimizer.step({"w": np.ones(2), "z": np.ones(2)})
    assert (params["w"].tolist(), optimizer.t) == ([1, 2], 0)

    def decays(name: str, array: Any) -> bool:
        return 1 / (name != "z") > 0

    params = {"w": np.array([1.0, 2.0]), "z": np.ones(2)}
    with pytest.raises(ZeroDivisionError):
        AdamW(params, decays=decays)


def test_parameters_are_read_and_copies_can_be_changed() -> None:
    model = stack()
    params: Any = model.params
    with pytest.raises(TypeError, match="expected a change in place"):
        params["lm_head.weight"] = np.zeros(1)
    for copied in (dict(model.params), params | {}):
        copied["lm_head.weight"] = np.zeros(1)
        assert len(copied) == len(model.params)
    assert model.params["lm_head.weight"].size > 1
