"""Configurations of the official packages, without the packages."""

import json
from pathlib import Path
from typing import Any

import pytest

from numpy_xlstm import SpecialTokens, from_pretrained, save_pretrained
from numpy_xlstm.checkpoints.transformers import from_transformers
from numpy_xlstm.errors import CheckpointError
from tests.checkpoints.build import large, paper

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes (checkpoints) is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 24}, "expected one number for embedding_dim and hidden_size; got"),
        ({"num_hidden_layers": 3}, "expected one number for num_blocks and num_hidden_layers; got"),
        ({"model_type": "llama"}, "model_type: expected 'xlstm'; got 'llama'"),
        ({"model_type": "llama", "num_hidden_layers": 9}, "model_type: expected 'xlstm'; got"),
        ({"num_head": 3}, "got 'num_head'; did you mean num_heads"),
        ({"rope_theta": 1e4}, "got 'rope_theta', which may change the results"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: expected None; got"),
        ({"num_heads": 5}, "a width that num_heads = 5 divides"),
        ({"eos_token_id": "</s>"}, "eos_token_id: expected a whole number"),
        ({"ffn_proj_factor": 1e300}, "ffn_proj_factor: expected a number in "),
        ({"ffn_proj_factor": float("inf")}, "ffn_proj_factor: expected a finite number; got inf"),
        ({"mode": "train_fast"}, "mode: expected 'train'"),
        ({"dropout": 0.1}, "got 'dropout'"),
    ],
    ids=str,
)
def test_fields_of_transformers(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_pretrained(large(), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError, match=rf"^config\.json: .*{message}") as error:
        from_pretrained(tmp_path / "model")
    assert "config: " not in str(error.value).replace("quantization_config", "")
    assert not isinstance(error.value.__cause__, CheckpointError)


def test_what_transformers_assumes_is_assumed() -> None:
    """A file may omit their default, which is 2.667; ours is 2.6667."""
    config, tokens = from_transformers({"model_type": "xlstm", "ffn_round_up_to_multiple_of": 1})
    assert config.ffn_proj_factor == 2.667
    assert config.ffn_dim == 10924  # and not 10922
    assert (config.embedding_dim, config.num_blocks, config.vocab_size) == (4096, 32, 50304)
    assert tokens == SpecialTokens(bos=0, eos=(2,), pad=1)


def test_absurd_widths_take_no_memory(tmp_path: Path) -> None:
    save_pretrained(paper(), tmp_path / "model")
    file = tmp_path / "model" / "config.yaml"
    values = yaml.safe_load(file.read_text())
    for change in ({"proj_factor": 1e12}, {"round_proj_up_to_multiple_of": 10**9}):
        values["mlstm_block"]["mlstm"] |= change
        file.write_text(yaml.safe_dump(values))
        with pytest.raises(CheckpointError, match="as many numbers as its file"):
            from_pretrained(tmp_path / "model")
