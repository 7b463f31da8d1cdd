"""Folders of transformers are loaded here, and ours there, in strict mode."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import from_pretrained, save_pretrained, with_weight_mode, xLSTMLarge
from numpy_xlstm.errors import CheckpointError
from tests.models.build import assert_close, assert_same, draw_tokens, large_config
from tests.parity.official import (
    assert_close_to_largest,
    gradients,
    made,
    renamed,
    safetensors,
    start,
    tokens_of,
    torch,
    transformers_model,
)


def test_fused_weights(transformers: Any, tmp_path: Path) -> None:
    """Their model cannot be made with them: its initialisation adds arrays of two shapes."""
    with pytest.raises(RuntimeError, match="must match the size"):
        transformers_model(transformers, weight_mode="fused")
    theirs = transformers_model(transformers)
    theirs.save_pretrained(tmp_path)
    single = from_pretrained(tmp_path, xLSTMLarge)
    fused = with_weight_mode(single, "fused")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"weight_mode": "fused"}))
    arrays = {name: torch.tensor(array) for name, array in fused.params.items()}
    safetensors.save_file(arrays, tmp_path / "model.safetensors")
    assert_same(dict(from_pretrained(tmp_path).params), dict(fused.params))
    save_pretrained(fused, tmp_path / "out", format="transformers")
    assert_same(dict(from_pretrained(tmp_path / "out").params), dict(single.params))


@pytest.mark.parametrize("max_shard_size", ["1GB", "40KB"])
@pytest.mark.parametrize("options", [{}, {"use_bias": True}], ids=str)
def test_their_folder_is_read(
    transformers: Any, options: Any, max_shard_size: str, tmp_path: Path
) -> None:
    theirs = transformers_model(transformers, **options)
    theirs.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (tmp_path / "model.safetensors").exists() == (max_shard_size == "1GB")
    ours = from_pretrained(tmp_path)
    assert (ours.special_tokens.bos, ours.special_tokens.eos) == (0, (2,))
    tokens, logits = tokens_of(theirs)
    y, grads, expected = gradients(ours, theirs, logits, tokens)
    grads.pop("backbone.out_norm.bias", None)
    assert_close({"y": y}, {"y": logits.detach().numpy()}, 1e-5)
    assert_close_to_largest(grads, renamed(expected))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_every_dtype_of_theirs_is_read_bit_for_bit(
    transformers: Any, dtype: str, tmp_path: Path
) -> None:
    theirs = transformers_model(transformers).to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path)
    assert ours.dtype == (np.float64 if dtype == "float64" else np.float32)
    wide = torch.float64 if dtype == "float64" else torch.float32
    expected = {name: array.to(wide).numpy() for name, array in theirs.state_dict().items()}
    assert_same(dict(ours.params), renamed(expected))


def test_a_tied_head_that_is_not_in_the_file(transformers: Any, tmp_path: Path) -> None:
    """A folder as written by older versions of transformers; the current one does not tie."""
    theirs = transformers_model(transformers, tie_word_embeddings=True)
    theirs.save_pretrained(tmp_path)
    arrays = safetensors.load_file(tmp_path / "model.safetensors")
    both = from_pretrained(tmp_path)
    assert np.abs(both.params["lm_head.weight"] - both.params["embedding.weight"]).max() > 0.1
    del arrays["lm_head.weight"]
    safetensors.save_file(arrays, tmp_path / "model.safetensors", {"format": "pt"})
    ours = from_pretrained(tmp_path)
    np.testing.assert_array_equal(ours.params["lm_head.weight"], ours.params["embedding.weight"])
    assert not np.shares_memory(ours.params["lm_head.weight"], ours.params["embedding.weight"])


HUB = json.loads(Path(__file__).with_name("xlstm-7b-config.json").read_text("utf-8"))
"""The fields of the published xLSTM 7B, of a smaller model."""


def test_the_fields_of_the_published_model(transformers: Any, tmp_path: Path) -> None:
    theirs = transformers_model(transformers)
    theirs.save_pretrained(tmp_path)
    expected = from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(HUB))
    assert_same(dict(from_pretrained(tmp_path).params), dict(expected.params))
    for field, value, message in (
        ("add_qk_norm", True, r"config\.json: .*add_qk_norm"),
        ("cell_norm_eps", 1e-5, r"config\.json: .*cell_norm_eps"),
        ("num_blocks", 3, "expected 'backbone.blocks.2.norm_mlstm.weight' and 14 more"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(HUB | {field: value}))
        with pytest.raises(CheckpointError, match=message):
            from_pretrained(tmp_path)


@pytest.mark.parametrize("options", [{}, {"use_bias": True}, {"weight_mode": "fused"}], ids=str)
@pytest.mark.parametrize("width", [24, 128])
def test_transformers_takes_ours(
    transformers: Any, options: Any, width: int, tmp_path: Path
) -> None:
    config = large_config(embedding_dim=width, chunk_size=16, vocab_size=31, **options)
    ours = made(config, np.float32)
    if "backbone.out_norm.bias" in ours.params:
        ours.params["backbone.out_norm.bias"][...] = 0
    folder = tmp_path / "folder"
    save_pretrained(ours, folder, format="transformers")
    theirs, info = transformers.xLSTMForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    assert theirs.config.ffn_proj_factor == 1.5
    tokens = draw_tokens(5, vocab=31)
    with torch.no_grad():  # any length, with the cache if it fits
        assert_close(
            {"y": ours(tokens, start(ours))[0]},
            {"y": theirs(torch.tensor(tokens)).logits.numpy()},
            1e-5,
        )
    for block in theirs.backbone.blocks:
        block.mlstm_layer.mlstm_backend.config.mode = "train"
    tokens, logits = tokens_of(theirs)
    single = with_weight_mode(ours, "single")
    _, grads, expected = gradients(single, theirs, logits, tokens)
    grads.pop("backbone.out_norm.bias", None)
    assert_close_to_largest(grads, renamed(expected))
    theirs.save_pretrained(tmp_path / "back", max_shard_size="40KB")
    back = with_weight_mode(from_pretrained(tmp_path / "back", xLSTMLarge), ours.config.weight_mode)
    assert_same(dict(back.params), dict(ours.params))


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize(
    ("dtype", "off"), [("float64", 1e-5), ("float16", 0.05), ("bfloat16", 0.2)]
)
def test_transformers_computes_in_the_dtype_of_our_folder(
    transformers: Any, dtype: str, off: float, width: int, tmp_path: Path
) -> None:
    """A model of width 64 has no cache there, and one of 128 has."""
    config = large_config(embedding_dim=width, num_heads=1, vocab_size=31)
    save_pretrained(made(config, np.float32), tmp_path / "folder", dtype=dtype)
    tokens = draw_tokens(20, vocab=31)
    y, _ = from_pretrained(tmp_path / "folder")(tokens)
    for options, bound in (({}, off), ({"dtype": torch.float32}, 1e-5)):
        theirs = transformers.xLSTMForCausalLM.from_pretrained(tmp_path / "folder", **options)
        with torch.no_grad():
            logits = theirs(torch.tensor(tokens)).logits.float().numpy()
        assert np.abs(logits - y).max() < bound * np.abs(y).max()
    # Without the cache, as in training, states need the dtype of the matrices, which convert says.
    states = {} if dtype == "float64" else {"inference_state_dtype": dtype}
    for options in ({}, states):
        theirs = transformers.xLSTMForCausalLM.from_pretrained(tmp_path / "folder", **options)
        ids = torch.tensor(tokens)
        if width == 128 and states != options:
            with pytest.raises(RuntimeError, match="same dtype"):
                theirs(ids, use_cache=False)
            continue
        out = theirs(ids, labels=ids, use_cache=False)
        assert np.abs(out.logits.detach().float().numpy() - y).max() < off * np.abs(y).max()
        out.loss.backward()
        assert theirs.lm_head.weight.grad.abs().max() > 0
