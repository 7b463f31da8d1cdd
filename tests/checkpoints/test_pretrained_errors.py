"""What save_pretrained refuses to write, and from_pretrained to read."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import SpecialTokens, from_pretrained, save_pretrained, xLSTMLMModel
from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.checkpoints.transformers import from_transformers
from numpy_xlstm.errors import CheckpointError, MissingExtraError, OptionError
from tests.checkpoints.build import large, lstm, paper, place, stack, write_safetensors
from tests.models.build import mlstm_block, slstm_block

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes (checkpoints) is not installed")
pytest.importorskip("onnx", reason="onnx (the extra 'cli') is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")


def refused(model: Any, path: Path, error: type[Exception], message: str, **options: Any) -> None:
    before = sorted(path.parent.iterdir())
    with pytest.raises(error, match=message):
        save_pretrained(model, path, **options)
    assert sorted(path.parent.iterdir()) == before


def test_models_that_a_format_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for kind in ("transformers", "xlstm-large"):
        message = f"model: expected xLSTMLarge for the format '{kind}'; got xLSTMLMModel, for"
        refused(paper(), path, CheckpointError, message, format=kind)
    refused(large(), path, CheckpointError, "got xLSTMLarge", format="xlstm")
    refused(large(), path, CheckpointError, "got xLSTMLarge", format="torch")
    refused(lstm(), path, OptionError, "expected a name that ends in")
    bare = large(add_out_norm=False)
    refused(bare, path, CheckpointError, "add_out_norm: expected True", format="transformers")
    uncapped = large(gate_soft_cap=None)
    refused(uncapped, path, CheckpointError, "gate_soft_cap: expected a number")
    biased = large(use_bias=True)
    refused(biased, path, CheckpointError, r"out_norm\.bias: expected 0, because transformers")


def test_numbers_that_a_dtype_does_not_hold(tmp_path: Path) -> None:
    for name, kind in (("model", "transformers"), ("a.safetensors", None), ("a.onnx", None)):
        model = large()
        model.params["lm_head.weight"][3, 4] = 1e5
        message = r"lm_head\.weight: expected numbers that float16 holds; got ±100000"
        refused(model, tmp_path / name, CheckpointError, message, format=kind, dtype="float16")
        model.params["lm_head.weight"][3, 4] = np.nan
        refused(model, tmp_path / name, ValueError, r"lm_head\.weight: expected finite numbers")
    message, path = "dtype: expected .*; got 'complex128'", tmp_path / "a.safetensors"
    refused(lstm().astype(np.complex128), path, OptionError, message, dtype="float32")


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save_pretrained(large(), tmp_path / "model")  # an empty folder will do
    message = "path: expected a new path or an empty folder"
    refused(large(), tmp_path / "model", OptionError, message)
    (tmp_path / "file").write_text("x")
    refused(large(), tmp_path / "file", OptionError, message)


def test_a_folder_of_the_user_that_looks_like_one_of_ours_stays(tmp_path: Path) -> None:
    mine = tmp_path / "model.partial" / "work"
    mine.parent.mkdir()
    mine.write_text("a year of it")
    save_pretrained(large(), tmp_path / "model")
    assert mine.read_text() == "a year of it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.partial"]


@pytest.mark.parametrize("name", ["a.npz", ".tar.gz", "a.PT", "x.foo"])
def test_a_folder_has_no_name_of_a_file(name: str, tmp_path: Path) -> None:
    refused(large(), tmp_path / name, OptionError, "expected a file that ends in .*, or a folder")


def test_a_sparse_terabyte(tmp_path: Path) -> None:
    """What a file needs is compared with the memory before any of it is read."""
    rows, path = 2**36, tmp_path / "a.safetensors"
    places = [0, 4 * rows], [4 * rows, 8 * rows], [8 * rows, 12 * rows], [12 * rows, 16 * rows]
    names = "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"
    header: dict[str, Any] = {"__metadata__": {"numpy_xlstm": "{}"}}
    for name, offsets in zip(names, places, strict=True):
        shape = [rows, 1] if "weight" in name else [rows]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": list(offsets)}
    write_safetensors(path, header, b"")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 16 * rows)
    with pytest.raises(CheckpointError, match=r"memory\); got 1,099,511,627,776 bytes"):
        read_arrays(path)


@pytest.mark.parametrize("kind", ["transformers", "safetensors"])
def test_without_ml_dtypes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place(tmp_path, kind)
    save_pretrained(large(), path, format=kind, dtype="bfloat16")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    hint = r"bfloat16 needs the cli extra: pip install 'numpy-xlstm\[cli\]'"
    with pytest.raises(MissingExtraError, match=hint):
        from_pretrained(path)
    other = tmp_path / "other" / path.name
    other.parent.mkdir()
    refused(large(), other, MissingExtraError, hint, format=kind, dtype="bfloat16")


def test_without_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pretrained(paper(), tmp_path / "model")
    monkeypatch.setitem(sys.modules, "yaml", None)
    hint = r"YAML needs the cli extra: pip install 'numpy-xlstm\[cli\]'"
    with pytest.raises(MissingExtraError, match=hint):
        from_pretrained(tmp_path / "model")
    refused(paper(), tmp_path / "other", MissingExtraError, hint)


def test_paths_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"file or folder; .*none does not exist"):
        from_pretrained(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty: expected model\.safetensors.*got none"):
        from_pretrained(tmp_path / "empty")
    (tmp_path / "empty" / "pytorch_model.bin").write_bytes(b"PK\3\4")
    with pytest.raises(CheckpointError, match=r"torch\.load\(path, weights_only=True\)"):
        from_pretrained(tmp_path / "empty")


# Configurations of the official packages, without the packages


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 24}, "expected one number for embedding_dim and hidden_size; got"),
        ({"num_hidden_layers": 3}, "expected one number for num_blocks and num_hidden_layers; got"),
        ({"model_type": "llama"}, "model_type: expected 'xlstm'; got 'llama'"),
        ({"num_head": 3}, "got 'num_head'; did you mean num_heads"),
        ({"rope_theta": 1e4}, "got 'rope_theta', which may change the results"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: expected None; got"),
        ({"eos_token_id": "</s>"}, "eos_token_id: expected a whole number"),
        ({"ffn_proj_factor": 1e300}, "ffn_proj_factor: expected a number in "),
        ({"ffn_proj_factor": float("inf")}, "ffn_proj_factor: expected a finite number; got inf"),
        ({"mode": "train_fast"}, "mode: expected 'train'"),
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


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (
            {"slstm_block": slstm_block(ffn={"act_fn": "gelu_tanh"})},
            r"slstm_block\.feedforward\.act_fn: expected .*; got 'gelu_tanh'",
        ),
        (
            {"mlstm_block": mlstm_block(conv1d_kernel_size=1)},
            r"mlstm_block\.mlstm\.conv1d_kernel_size: expected .*; got 1",
        ),
        (
            {"slstm_block": slstm_block(conv1d_kernel_size=1)},
            r"slstm_block\.slstm\.conv1d_kernel_size: expected .*; got 1",
        ),
    ],
)
@pytest.mark.parametrize("kind", [paper, stack])
def test_models_that_xlstm_cannot_run(
    kind: Any, blocks: dict[str, Any], message: str, tmp_path: Path
) -> None:
    refused(kind(**blocks), tmp_path / "model", CheckpointError, message, format="xlstm")


@pytest.mark.parametrize("length", [0, -1, 9])
def test_a_folder_of_xlstm_has_a_context_length(length: int, tmp_path: Path) -> None:
    model = paper(mlstm_block=mlstm_block(context_length=length), context_length=length)
    save_pretrained(model, tmp_path / "model", format="xlstm")
    config = from_pretrained(tmp_path / "model", xLSTMLMModel).config.to_dict()
    found = config["context_length"], config["mlstm_block"]["mlstm"]["context_length"]
    assert found == (length if length > 0 else 2048,) * 2


def test_parameters_of_two_dtypes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_pretrained(lstm(), path)
    arrays, metadata = read_arrays(path)
    name = next(iter(arrays))
    write_arrays(path, arrays | {name: arrays[name].astype(np.float64)}, metadata)
    with pytest.raises(CheckpointError, match="expected parameters of one dtype; got"):
        from_pretrained(path)
