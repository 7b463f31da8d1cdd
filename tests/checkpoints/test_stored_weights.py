"""Matrices stay in 16 bits: the model computes as if they were widened, and saves the same bits."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import numpy_xlstm as nx
from numpy_xlstm import errors, numerics
from numpy_xlstm.checkpoints import open_pretrained, tensors
from numpy_xlstm.checkpoints.files import write_file
from numpy_xlstm.checkpoints.safetensors import numpy_dtype
from numpy_xlstm.cli import main
from numpy_xlstm.trees import leaves
from tests.models.build import lm_config

pytest.importorskip("ml_dtypes")

F32 = np.float32
RNG = np.random.default_rng(0)


def large(weight_mode: Literal["single", "fused"]) -> Any:
    config = nx.xLSTMLargeConfig(
        64, num_heads=2, num_blocks=2, vocab_size=50, weight_mode=weight_mode
    )
    return nx.xLSTMLarge(config, dtype=F32, rng=np.random.default_rng(1))


MODELS: dict[str, Callable[[], Any]] = {
    "large": lambda: large("single"),
    "fused": lambda: large("fused"),
    "mixed": lambda: nx.xLSTMLMModel(lm_config(), dtype=F32, rng=np.random.default_rng(2)),
    "tied": lambda: nx.xLSTMLMModel(
        lm_config(tie_weights=True), dtype=F32, rng=np.random.default_rng(3)
    ),
    "LSTM": lambda: nx.LanguageModel(50, 16, nx.LSTM(16, 24, dtype=F32, rng=4), rng=4),
}


@pytest.fixture(params=["bfloat16", "float16"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=MODELS)
def path(request: pytest.FixtureRequest, dtype: str, tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    nx.save_pretrained(MODELS[request.param](), file, dtype=dtype)
    return file


def kinds(model: Any) -> dict[str, str]:
    return {name: array.dtype.name for name, array in model.params.items()}


def test_it_computes_what_the_widened_model_computes(path: Path, dtype: str) -> None:
    widened, stored = nx.from_pretrained(path), nx.from_pretrained(path, weights="stored")
    assert stored.dtype == F32
    assert stored.embedding.params["weight"].dtype == stored.head.params["weight"].dtype == dtype
    tokens = RNG.integers(0, widened.vocab_size, (3, 12))
    lengths = np.array([12, 5, 0])
    (y, state), (expected, after) = (
        stored(tokens, lengths=lengths),
        widened(tokens, lengths=lengths),
    )
    assert abs(y - expected).max() <= 2e-5 * abs(expected).max()
    for (name, array), (other, wide) in zip(leaves("", state), leaves("", after), strict=True):
        np.testing.assert_allclose(array, wide, rtol=1e-4, atol=1e-5)
        assert name == other
    step, before = stored.prepared().step, stored.init_state(3)
    for t in range(12):
        logits, before = step(tokens[:, t], before)
        assert abs(logits - widened(tokens[:, : t + 1])[0][:, -1]).max() <= 2e-5 * abs(y).max()


def test_saving_writes_the_bits_that_were_read(path: Path, tmp_path: Path) -> None:
    stored = nx.from_pretrained(path, weights="stored")
    nx.save_pretrained(stored, again := tmp_path / "again.safetensors")
    assert again.read_bytes() == path.read_bytes()


def test_methods_do_what_they_say(path: Path, dtype: str) -> None:
    stored = nx.from_pretrained(path, weights="stored")
    assert dtype in repr(stored)
    copied = stored.state_dict()
    for name, array in stored.params.items():
        assert copied[name].dtype == array.dtype
        np.testing.assert_array_equal(copied[name], array)
        assert not np.shares_memory(copied[name], array)
    again = stored.with_params({name: copied[name] for name in stored.params})
    assert kinds(again) == kinds(stored)
    name = [name for name, kind in kinds(stored).items() if kind == dtype][1]  # not tied
    changed = {key: array.astype(F32) for key, array in copied.items()}
    changed[name][0, 0] += 1
    again.load_state_dict(changed)
    assert again.params[name][0, 0] == changed[name].astype(numpy_dtype(dtype))[0, 0]
    again.load_state_dict(stored.state_dict())
    np.testing.assert_array_equal(again.params[name], stored.params[name])
    bad = {key: array.copy() for key, array in stored.params.items()}
    for number in (np.nan, np.inf):
        bad[name][0, 0] = number
        for change in (stored.with_params, stored.load_state_dict):
            with pytest.raises(errors.NonFiniteError, match=re.escape(name)):
                change(bad)
    masked = stored.params[name].view(np.ma.MaskedArray)
    with pytest.raises(errors.DTypeError, match="plain NumPy array"):
        stored.with_params({**stored.params, name: masked})
    wide = stored.astype(F32)
    assert {*kinds(wide).values()} == {"float32"}
    tokens = RNG.integers(0, wide.vocab_size, (2, 4))
    y, _, cache = wide.forward(tokens)
    wide.backward(y, cache)
    y, _, cache = stored.forward(tokens)
    with pytest.raises(errors.DTypeError, match=r"^backward: expected .*; got matrices in 16 bits"):
        stored.backward(y, cache)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_the_last_number_is_checked_too(
    size: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, "CHUNK", 4)
    array = np.ones(size, numpy_dtype(dtype))
    numerics.check_parameter("W", array, array)
    array[-1] = np.inf
    with pytest.raises(errors.NonFiniteError, match="W: expected finite"):
        numerics.check_parameter("W", array, array)


def test_vectors_that_16_bits_do_not_hold_are_saved_in_32(dtype: str, tmp_path: Path) -> None:
    nx.save_pretrained(large("single"), first := tmp_path / "a.safetensors", dtype=dtype)
    model = nx.from_pretrained(first, weights="stored")
    name = next(name for name, kind in kinds(model).items() if kind == "float32")
    model.params[name][0] = 1e5 + 1
    nx.save_pretrained(model, path := tmp_path / "b.safetensors")
    again = nx.from_pretrained(path, weights="stored")
    assert kinds(again) == kinds(model)
    np.testing.assert_array_equal(again.params[name], model.params[name])
    assert open_pretrained(path).stored[name].dtype == "float32"


@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_numbers_that_are_not_finite_are_found(number: float, dtype: str, tmp_path: Path) -> None:
    nx.save_pretrained(large("single"), path := tmp_path / "folder", dtype=dtype)
    stored = open_pretrained(path).stored.values()
    arrays = {array.name: array.read() for array in stored}
    arrays["lm_head.weight"][-1, -1] = number
    dtypes = dict.fromkeys(arrays, dtype)
    write_file(path / "model.safetensors", arrays, dtypes, {})  # without checksums, as by others
    for weights in ("widened", "stored"):
        with pytest.raises(errors.NonFiniteError, match=r"lm_head\.weight: expected finite"):
            nx.from_pretrained(path, weights=weights)


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nx.save_pretrained(large("single"), path := tmp_path / "a.safetensors", dtype="bfloat16")
    with pytest.raises(errors.OptionError, match="weights: expected one of"):
        open_pretrained(path).load(weights="narrow")
    expected = "^weights: expected 'widened' for a model in float64; got 'stored' .dtype="
    with pytest.raises(errors.OptionError, match=expected):
        nx.from_pretrained(path, weights="stored", dtype="float64")
    monkeypatch.setattr(tensors, "memory_limit", lambda: 1000)
    expected = r"^parameters: .* 1,000 bytes .*; got [0-9,]* bytes \(with weights='stored', "
    with pytest.raises(errors.CheckpointError, match=expected):
        nx.from_pretrained(path)
    monkeypatch.setattr(tensors, "memory_limit", lambda: 40_000)  # all vectors, and no matrix
    nx.from_pretrained(path, weights="stored")


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nx.LanguageModel(256, 16, nx.LSTM(16, 24, dtype=F32, rng=4), rng=4)
    path = tmp_path / "a.safetensors"
    nx.checkpoints.save_pretrained(model, path, tokenizer=nx.ByteTokenizer(), dtype="bfloat16")
    texts = []
    for weights in ("widened", "stored"):
        assert main(["generate", str(path), "--prompt", "ab", "--weights", weights]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert main(["convert", str(path), str(tmp_path / "b.safetensors")]) == 0
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()
    capsys.readouterr()
    assert main(["info", str(path)]) == 0
    assert re.search(r"memory +58,112 bytes; [0-9,]+ with --weights st", capsys.readouterr().out)
