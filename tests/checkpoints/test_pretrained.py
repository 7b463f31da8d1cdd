"""from_pretrained and save_pretrained without other packages."""

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    SpecialTokens,
    from_pretrained,
    open_pretrained,
    save_pretrained,
    with_weight_mode,
    xLSTMLarge,
    xLSTMLMModel,
)
from numpy_xlstm.checkpoints import FORMATS
from numpy_xlstm.errors import CheckpointError, DTypeError, MissingExtraError, OptionError
from tests.checkpoints.build import (
    large,
    lstm,
    paper,
    read_safetensors,
    stack,
)
from tests.models.build import (
    assert_same,
    large_config,
    lm_config,
    make,
    mlstm_block,
    slstm_block,
)

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes (checkpoints) is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")

DTYPES = "float16", "bfloat16", "float32", "float64"
MODELS: dict[str, Any] = {
    "large": lambda dtype: make(large_config(), dtype=dtype),
    "large-fused-biased": lambda dtype: make(
        large_config(weight_mode="fused", use_bias=True), dtype=dtype
    ),
    "mixed": lambda dtype: make(lm_config(), dtype=dtype),
    "tied": lambda dtype: make(lm_config(tie_weights=True), dtype=dtype),
    "stack": stack,
    "lstm": lstm,
}
ROUND = [
    pytest.param(model, kind, layout, dtype, id=f"{model}-{kind}-{layout}-{dtype}")
    for model, kinds in {
        "large": ("transformers", "xlstm-large", "npz", "safetensors"),
        "large-fused-biased": ("transformers", "xlstm-large", "npz", "safetensors"),
        "mixed": ("xlstm", "npz", "safetensors"),
        "tied": ("xlstm", "npz", "safetensors"),
        "stack": ("xlstm", "npz", "safetensors"),
        "lstm": ("npz", "safetensors"),
    }.items()
    for kind in kinds
    for layout in (("vanilla", "cuda") if kind == "xlstm" else ("vanilla",))
    for dtype in DTYPES
]


def place(folder: Path, kind: str) -> Path:
    return folder / (f"model.{kind}" if kind in ("npz", "safetensors") else "model")


def rounded(model: Any, dtype: str) -> Any:
    """Round the numbers of a model to this dtype."""
    narrow = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    params = {n: a.astype(narrow).astype(a.dtype) for n, a in model.params.items()}
    return model.with_params(params)


@pytest.mark.parametrize(("name", "kind", "layout", "dtype"), ROUND)
def test_round_trips_are_bit_identical(
    name: str, kind: str, layout: str, dtype: str, tmp_path: Path
) -> None:
    model = rounded(MODELS[name](np.float64 if dtype == "float64" else np.float32), dtype)
    if kind == "transformers" and "backbone.out_norm.bias" in model.params:
        model.params["backbone.out_norm.bias"][...] = 0
    one, two = place(tmp_path, kind), tmp_path / "two" / place(tmp_path, kind).name
    two.parent.mkdir()
    save_pretrained(model, one, format=kind, dtype=dtype, layout=layout)
    loaded: Any = from_pretrained(one)
    mode = getattr(getattr(model, "config", None), "weight_mode", None)
    same = loaded if mode is None else with_weight_mode(loaded, mode)
    assert same.dtype == model.dtype
    assert type(loaded) is type(model)
    assert_same(dict(same.params), dict(model.params))
    save_pretrained(loaded, two, format=kind, dtype=dtype, layout=layout)
    for file in [one] if one.is_file() else one.glob("*.safetensors"):
        again = two if two.is_file() else two / file.name
        assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("kind", ["transformers", "xlstm-large"])
def test_single_and_fused_are_the_same_model(kind: str, tmp_path: Path) -> None:
    model = large(weight_mode="fused")
    save_pretrained(model, tmp_path / "model", format=kind)
    single = from_pretrained(tmp_path / "model", xLSTMLarge)
    assert single.config.weight_mode == "single"
    tokens = np.array([[1, 2, 6, 0, 3]])
    np.testing.assert_allclose(single(tokens)[0], model(tokens)[0], rtol=2e-5, atol=1e-6)
    assert with_weight_mode(single, "single") is single


def test_the_formats_that_nobody_has_to_name(tmp_path: Path) -> None:
    save_pretrained(large(), tmp_path / "a")
    save_pretrained(paper(), tmp_path / "b")
    save_pretrained(paper(), tmp_path / "c.npz")
    save_pretrained(lstm(), tmp_path / "d.safetensors")
    found = [open_pretrained(path).format for path in sorted(tmp_path.iterdir())]
    assert found == ["transformers", "xlstm", "npz", "safetensors"]
    assert found[0] == open_pretrained(tmp_path / "a" / "model.safetensors").format
    assert set(FORMATS) >= {"transformers", "xlstm", "xlstm-large", "torch", "npz", "safetensors"}


def test_our_file_in_a_folder_and_plain_arrays_beside_a_configuration(tmp_path: Path) -> None:
    model = paper()
    (tmp_path / "ours").mkdir()
    save_pretrained(model, tmp_path / "ours" / "model.npz")
    assert_same(dict(from_pretrained(tmp_path / "ours").params), dict(model.params))
    save_pretrained(model, tmp_path / "theirs")
    (tmp_path / "theirs" / "model.safetensors").unlink()
    np.savez(tmp_path / "theirs" / "weights.npz", **model.state_dict())
    assert_same(dict(from_pretrained(tmp_path / "theirs").params), dict(model.params))


def test_special_tokens_travel(tmp_path: Path) -> None:
    model = large()
    model.special_tokens = SpecialTokens(bos=3, eos=(4, 5), pad=None)
    for name, kind in (("a", "transformers"), ("b.npz", None), ("c.safetensors", None)):
        save_pretrained(model, tmp_path / name, format=kind)
        assert from_pretrained(tmp_path / name).special_tokens == model.special_tokens
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (3, [4, 5])
    save_pretrained(large(), tmp_path / "none", format="transformers")
    assert from_pretrained(tmp_path / "none").special_tokens == SpecialTokens()


def test_what_is_opened_has_not_been_read(tmp_path: Path) -> None:
    save_pretrained(large(), tmp_path / "model", max_shard_size="4KB")
    opened = open_pretrained(tmp_path / "model")
    for file in (tmp_path / "model").glob("*.safetensors"):
        _, data = read_safetensors(file)
        file.write_bytes(file.read_bytes()[: -len(data)] + bytes(len(data)))
    assert opened.model.num_parameters == large().num_parameters
    assert opened.stored["embedding.weight"].shape == (7, 12)
    assert opened.dtype == "float32"
    with pytest.raises(CheckpointError, match="the checksum does not match its bytes"):
        opened.load()


@pytest.mark.parametrize("mapped", [True, False])
def test_the_file_is_never_changed(mapped: bool, tmp_path: Path) -> None:
    """Writing to parameters does not change the file; replacing the file does not change them."""
    for path in (tmp_path / "model", tmp_path / "model.safetensors", tmp_path / "model.npz"):
        save_pretrained(large(), path)
        model = from_pretrained(path, mapped=mapped)
        files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
        before = [file.read_bytes() for file in files]
        for array in model.params.values():
            array += 1
        assert [file.read_bytes() for file in files] == before
        for file in files:
            file.unlink()
        for name, array in large().params.items():
            np.testing.assert_array_equal(model.params[name], array + 1)


def test_parameters_can_be_written_to_and_gradients_taken(tmp_path: Path) -> None:
    save_pretrained(paper(tie_weights=True), tmp_path / "model")
    model = from_pretrained(tmp_path / "model", dtype="float64")
    assert model.dtype == np.float64
    logits, _, cache = model.forward(np.array([[1, 2, 3]]))
    _, _, grads = model.backward(np.ones_like(logits), cache)
    for name, array in model.params.items():
        array -= 0.1 * grads[name]
    assert model.head.params["weight"] is model.params["token_embedding.weight"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "longdouble", "complex128", int])
def test_a_model_computes_in_float32_or_float64(dtype: Any, tmp_path: Path) -> None:
    save_pretrained(large(), tmp_path / "model")
    with pytest.raises(DTypeError, match="dtype: expected one of float32, float64; got "):
        from_pretrained(tmp_path / "model", dtype=dtype)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    options: Any = {"progress": lambda done, total: told.append((done, total))}
    model = large()
    save_pretrained(model, tmp_path / "model", dtype="float16", **options)
    written, told[:] = list(told), []
    from_pretrained(tmp_path / "model", **options)
    total = 2 * model.num_parameters
    for each in (written, told):
        assert each[-1] == (total, total)
        assert len(each) == len(model.params)
        assert all(a < b for (a, _), (b, _) in pairwise(each))


@pytest.mark.parametrize(("size", "files"), [("1GB", 1), (4000, 3), ("0.004 MB", 3), (1, 33)])
def test_files_of_a_size(size: Any, files: int, tmp_path: Path) -> None:
    save_pretrained(large(), tmp_path / "model", max_shard_size=size)
    found = sorted((tmp_path / "model").glob("*.safetensors"))
    assert len(found) == files
    if files == 3:
        assert max(len(read_safetensors(file)[1]) for file in found) <= 4000
    assert_same(dict(from_pretrained(tmp_path / "model").params), dict(large().params))


# Errors of writing


def refused(model: Any, path: Path, error: type[Exception], message: str, **options: Any) -> None:
    before = sorted(path.parent.iterdir())
    with pytest.raises(error, match=message):
        save_pretrained(model, path, **options)
    assert sorted(path.parent.iterdir()) == before


def test_models_that_a_format_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for kind in ("transformers", "xlstm-large"):
        message = f"model: expected one of xLSTMLarge for the format '{kind}'; got xLSTMLMModel"
        refused(paper(), path, CheckpointError, message, format=kind)
    refused(large(), path, CheckpointError, "got xLSTMLarge", format="xlstm")
    refused(large(), path, CheckpointError, "got xLSTMLarge", format="torch")
    refused(lstm(), path, CheckpointError, "expected a name that ends in")
    bare = large(add_out_norm=False)
    refused(bare, path, CheckpointError, "add_out_norm: expected True", format="transformers")
    uncapped = large(gate_soft_cap=None)
    refused(uncapped, path, CheckpointError, "gate_soft_cap: expected a number")
    biased = large(use_bias=True)
    refused(biased, path, CheckpointError, r"out_norm\.bias: expected 0, because transformers")


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
    ids=["act_fn", "mlstm", "slstm"],
)
@pytest.mark.parametrize("kind", [paper, stack])
def test_models_that_xlstm_cannot_run(
    kind: Any, blocks: dict[str, Any], message: str, tmp_path: Path
) -> None:
    refused(kind(**blocks), tmp_path / "model", CheckpointError, message, format="xlstm")


def test_a_convolution_that_no_block_has_is_no_obstacle(tmp_path: Path) -> None:
    model = paper(mlstm_block=mlstm_block(conv1d_kernel_size=1), slstm_at="all")
    save_pretrained(model, tmp_path / "model", format="xlstm")
    block = from_pretrained(tmp_path / "model", xLSTMLMModel).config.mlstm_block
    assert block is not None
    assert block.mlstm.conv1d_kernel_size == 1


def test_numbers_that_a_dtype_does_not_hold(tmp_path: Path) -> None:
    for name, kind in (("model", "transformers"), ("a.npz", "npz"), ("a.safetensors", None)):
        model = large()
        model.params["lm_head.weight"][3, 4] = 1e5
        message = r"lm_head\.weight: expected numbers that float16 holds; got ±100000"
        refused(model, tmp_path / name, CheckpointError, message, format=kind, dtype="float16")
        model.params["lm_head.weight"][3, 4] = np.nan
        refused(model, tmp_path / name, ValueError, r"lm_head\.weight: expected finite numbers")


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save_pretrained(large(), tmp_path / "model")  # an empty folder will do
    message = "path: expected a new path or an empty folder"
    refused(large(), tmp_path / "model", CheckpointError, message)
    (tmp_path / "file").write_text("x")
    refused(large(), tmp_path / "file", CheckpointError, message)


def test_a_folder_of_the_user_that_looks_like_one_of_ours_stays(tmp_path: Path) -> None:
    mine = tmp_path / "model.partial" / "work"
    mine.parent.mkdir()
    mine.write_text("a year of it")
    save_pretrained(large(), tmp_path / "model")
    assert mine.read_text() == "a year of it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.partial"]


def test_nothing_is_left_of_what_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(done: int, total: int) -> None:
        if done > total / 2:
            raise OSError("no space left")

    refused(large(), tmp_path / "m", OSError, "no space", max_shard_size=4000, progress=full)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "gguf"}, "format: expected one of 'npz'"),
        ({"dtype": "int8"}, "dtype: expected one of 'float16', 'bfloat16', 'float32', 'float64'"),
        ({"layout": "canonical"}, "layout: expected one of 'vanilla', 'cuda'"),
        ({"max_shard_size": 0}, "max_shard_size: expected bytes, such as '5GB'; got 0"),
        ({"max_shard_size": "5 apples"}, "max_shard_size: .*got '5 apples'"),
        ({"max_shard_size": True}, "max_shard_size: .*got True"),
    ],
    ids=str,
)
def test_options_that_are_none(options: Any, message: str, tmp_path: Path) -> None:
    refused(large(), tmp_path / "model", OptionError, message, **options)


@pytest.mark.parametrize("kind", ["transformers", "npz", "safetensors"])
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
