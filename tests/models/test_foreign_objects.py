"""What is no array of the wrong shape but another thing altogether is named as well."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    LSTM,
    LanguageModel,
    LayerNorm,
    Linear,
    load_checkpoint,
    mLSTM,
    mLSTMBlock,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    save_checkpoint,
    sLSTMBlock,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
)
from numpy_xlstm.errors import (
    CacheError,
    DTypeError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from numpy_xlstm.generation import ByteTokenizer, generate
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


NO_CACHE: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: LSTM(8, 8).backward(X, None),  # type: ignore[arg-type]
    "mLSTM": lambda: mLSTM(8, 8).backward(X, None),  # type: ignore[arg-type]
    "Linear": lambda: Linear(8, 8).backward(X, None),  # type: ignore[arg-type]
    "LayerNorm": lambda: LayerNorm(8).backward(X, None),  # type: ignore[arg-type]
    "mLSTMBlock": lambda: mlstm_block().backward(X, None),  # type: ignore[arg-type]
    "xLSTMLarge": lambda: large().backward(X, None),  # type: ignore[arg-type]
    "LanguageModel": lambda: LanguageModel(5, 8, LSTM(8, 8)).backward(X, None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", NO_CACHE)
def test_a_backward_without_a_cache(name: str) -> None:
    with pytest.raises(CacheError, match=rf"cache: expected .*{name}.*; got NoneType"):
        NO_CACHE[name]()


def test_the_cache_of_another_block() -> None:
    y, _, cache = slstm_block().forward(X)
    with pytest.raises(CacheError, match=r"a mLSTMBlock of width 8; got that of a sLSTMBlock"):
        mlstm_block().backward(y, cache)
    y, _, cache = mlstm_block(16).forward(np.concatenate((X, X), axis=-1))
    with pytest.raises(CacheError, match=r"of width 8; got that of a mLSTMBlock of width 16"):
        mlstm_block().backward(y, cache)


@pytest.mark.parametrize("rng", [3, "seed", np.random.RandomState(0)])
def test_a_source_of_randomness_that_is_none(rng: Any) -> None:
    for call in (
        lambda: mlstm_block().forward(X, rng=rng),
        lambda: large().forward(IDS, rng=rng),
        lambda: train_step(large(), AdamW(large().params), Batch(IDS, IDS), rng=rng),
    ):
        with pytest.raises(OptionError, match=r"rng: expected a np.random.Generator, or None; got"):
            call()


def test_generation_without_a_generator_or_with_options_as_a_dict() -> None:
    model, tokenizer = large().with_params(large().params), ByteTokenizer()
    with pytest.raises(OptionError, match=r"sampling: expected a Sampling; got {}"):
        generate(model, tokenizer, "a", length=1, sampling={}, rng=np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"rng: expected a np.random.Generator; got None"):
        generate(model, tokenizer, "a", length=1, rng=None)  # type: ignore[arg-type]


def test_no_parameters_by_name() -> None:
    model = large()
    with pytest.raises(ShapeError, match=r"state_dict: expected arrays by name; got NoneType"):
        model.load_state_dict(None)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"such as model.params; got xLSTMLarge"):
        AdamW(model)  # type: ignore[arg-type]


def test_a_batch_of_lists() -> None:
    model = large()
    batch = Batch(IDS.tolist(), IDS)
    with pytest.raises(ShapeError, match=r"inputs: expected an array of ids \(B, T\); got list"):
        train_step(model, AdamW(model.params), batch)
    with pytest.raises(ShapeError, match=r"targets: expected .* \(B, T\); got \(3,\)"):
        train_step(model, AdamW(model.params), Batch(IDS, IDS[0]))


def test_a_dtype_that_numpy_does_not_know() -> None:
    with pytest.raises(DTypeError, match=r"dtype: expected one of float32, .*; got 'float33'"):
        LSTM(2, 2, dtype="float33")


def test_a_layer_without_parameters_has_no_dtype() -> None:
    with pytest.raises(AttributeError, match="this LayerNorm has none"):
        _ = LayerNorm(3, weight=False).dtype


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model, path = large(), tmp_path / "model.npz"
    save_checkpoint(path, model)
    before = path.read_bytes()
    model.params["lm_head.weight"][0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"lm_head.weight: expected finite numbers; got nan"):
        save_checkpoint(path, model)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]
    assert np.isfinite(load_checkpoint(path).model.params["lm_head.weight"]).all()


def test_ids_in_a_list() -> None:
    assert ByteTokenizer().decode([110, 195, 169]) == "né"  # type: ignore[arg-type]
    assert ByteTokenizer().decode([]) == ""  # type: ignore[arg-type]
