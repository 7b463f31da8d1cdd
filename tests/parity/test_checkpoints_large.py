"""xLSTM Large: folders of the package ``xlstm`` are loaded here, and ours there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import from_pretrained, save_pretrained, with_weight_mode, xLSTMLarge
from tests.models.build import B, assert_close, assert_same, draw_tokens, flat, large_config
from tests.parity.official import (
    FORWARD,
    LARGE,
    T,
    assert_close_to_largest,
    assert_exact,
    gradients,
    large,
    large_model,
    made,
    safetensors,
    start,
    torch,
    write_large,
    yaml,
)
from tests.parity.states import from_official


@pytest.mark.parametrize("name", LARGE)
def test_their_large_is_read(name: str, tmp_path: Path) -> None:
    """Their sequence starts from m = 0. Logits, gradients and the last state are compared."""
    theirs = large_model(**LARGE[name])
    shards = 3 if name == "large-single" else 1
    ours: Any = from_pretrained(write_large(theirs, tmp_path / "large", shards))
    tokens = draw_tokens(T, vocab=31)
    assert isinstance(ours, xLSTMLarge)
    assert_exact(ours, theirs, tokens)
    with torch.no_grad():
        expected = from_official(ours, theirs(torch.tensor(tokens))[1])
    assert_close(flat(ours(tokens, start(ours))[1]), flat(expected), FORWARD)


def test_single_weights_under_a_fused_configuration(tmp_path: Path) -> None:
    """Their loader accepts separate weights for any configuration."""
    theirs = large_model()
    theirs.config.weight_mode = "fused"
    ours = from_pretrained(write_large(theirs, tmp_path / "large"), xLSTMLarge)
    assert ours.config.weight_mode == "single"
    fused = with_weight_mode(ours, "fused")
    convert = pytest.importorskip("xlstm.xlstm_large.utils").convert_single_weights_to_fused_weights
    expected = {name: a.numpy() for name, a in convert(theirs.state_dict()).items()}
    assert_same(dict(fused.params), {name: expected[name] for name in fused.params})
    assert_same(dict(with_weight_mode(fused, "single").params), dict(ours.params))


@pytest.mark.parametrize("options", [{}, {"use_bias": True}, {"weight_mode": "fused"}], ids=str)
def test_their_loader_takes_our_large(options: Any, tmp_path: Path) -> None:
    loader = pytest.importorskip("xlstm.xlstm_large.from_pretrained")
    ours = made(large_config(embedding_dim=32, chunk_size=16, **options))
    folder = tmp_path / "large"
    save_pretrained(ours, folder, format="xlstm-large")
    theirs = loader.load_from_pretrained(folder, backend_mode="train")
    single = with_weight_mode(ours, "single").astype(np.float32)
    tokens = draw_tokens(T)
    y, grads, expected = gradients(single, theirs, theirs(torch.tensor(tokens))[0], tokens)
    with torch.no_grad():
        assert_close({"y": y}, {"y": theirs(torch.tensor(tokens))[0].numpy()}, 1e-5)
    assert_close_to_largest(grads, expected)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    built = large.xLSTMLarge(large.xLSTMLargeConfig(**config))  # as it is, any length, on a CPU
    built.load_state_dict(safetensors.load_file(folder / "model.safetensors"))
    with torch.no_grad():
        assert built(torch.tensor(draw_tokens(5)))[0].shape == (B, 5, 7)
