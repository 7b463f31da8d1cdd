"""from_pretrained and save_pretrained without other packages."""

import json
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    LSTM,
    from_pretrained,
    open_pretrained,
    save_pretrained,
    with_weight_mode,
)
from numpy_xlstm.checkpoints import FORMATS, Format, Pretrained, pretrained
from numpy_xlstm.checkpoints.description import Content
from numpy_xlstm.errors import CheckpointError, DTypeError
from tests.checkpoints.build import (
    large,
    lstm,
    paper,
    place,
    read_config,
    read_safetensors,
    stack,
    write,
    write_config,
    write_safetensors,
)
from tests.models.build import assert_same

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes (checkpoints) is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")

DTYPES = "float16", "bfloat16", "float32", "float64"
MODELS: dict[str, Any] = {
    "large": large,
    "large-fused-biased": partial(large, weight_mode="fused", use_bias=True),
    "mixed": paper,
    "tied": partial(paper, tie_weights=True),
    "stack": stack,
    "lstm": lstm,
}
ROUND = [
    pytest.param(model, kind, layout, dtype, id=f"{model}-{kind}-{layout}-{dtype}")
    for model, kinds in {
        "large": ("transformers", "xlstm-large", "safetensors"),
        "large-fused-biased": ("transformers", "xlstm-large", "safetensors"),
        "mixed": ("xlstm", "safetensors"),
        "tied": ("xlstm", "safetensors"),
        "stack": ("xlstm", "safetensors"),
        "lstm": ("safetensors",),
    }.items()
    for kind in kinds
    for layout in (("vanilla", "cuda") if kind == "xlstm" else ("vanilla",))
    for dtype in DTYPES
]


@pytest.mark.parametrize(("name", "kind", "layout", "dtype"), ROUND)
def test_round_trips_are_bit_identical(
    name: str, kind: str, layout: str, dtype: str, tmp_path: Path
) -> None:
    model = MODELS[name](np.float64 if dtype == "float64" else np.float32)
    narrow = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    params = {n: a.astype(narrow).astype(a.dtype) for n, a in model.params.items()}
    model = model.with_params(params)
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
    if kind == "safetensors" and name != "lstm":
        assert loaded.config == model.config
    assert_same(dict(same.params), dict(model.params))
    save_pretrained(loaded, two, format=kind, dtype=dtype, layout=layout)
    for file in [one] if one.is_file() else one.glob("*.safetensors"):
        again = two if two.is_file() else two / file.name
        assert again.read_bytes() == file.read_bytes()


def test_the_formats_that_nobody_has_to_name(tmp_path: Path) -> None:
    save_pretrained(large(), tmp_path / "a")
    save_pretrained(paper(), tmp_path / "b")
    save_pretrained(paper(), tmp_path / "c.safetensors")
    found = [open_pretrained(path).format for path in sorted(tmp_path.iterdir())]
    assert found == ["transformers", "xlstm", "safetensors"]
    assert found[0] == open_pretrained(tmp_path / "a" / "model.safetensors").format
    for model in (large(), paper(), stack(), lstm(), LSTM(2, 3)):
        defaults = [f for f in FORMATS.values() if f.is_default and isinstance(model, f.models)]
        assert len({form.suffix for form in defaults}) == len(defaults)


def test_a_format_of_other_files_stands_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(content: Content) -> Pretrained | None:
        if content.path.suffix != ".pickle":
            return None
        return Pretrained(content.path, "pickle", LSTM(2, 3), {})

    form = Format("pickle", (LSTM,), read, lambda *args: None, ".pickle", options=())
    monkeypatch.setattr(pretrained, "FORMATS", {"pickle": form, **FORMATS})
    (tmp_path / "a.pickle").write_bytes(b"\x80\x04 is never read as a safetensors file")
    assert open_pretrained(tmp_path / "a.pickle").format == "pickle"
    save_pretrained(LSTM(2, 3), tmp_path / "a.safetensors")
    assert open_pretrained(tmp_path / "a.safetensors").format == "safetensors"


def test_what_is_opened_has_not_been_read(tmp_path: Path) -> None:
    opened = open_pretrained(write("shards", tmp_path))
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
    for path in (tmp_path / "model", tmp_path / "model.safetensors"):
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


@pytest.mark.parametrize("shift", range(8))
def test_mapped_parameters_are_separate_and_aligned(shift: int, tmp_path: Path) -> None:
    """One array can serve two parameters, and a header can have any length."""
    model, folder = large(np.float64), tmp_path / "model"
    save_pretrained(model, folder, dtype="float64")
    values = read_config(folder / "config.json")
    write_config(folder / "config.json", values | {"tie_word_embeddings": True})
    header, data = read_safetensors(folder / "model.safetensors")
    del header["__metadata__"]
    end = header.pop("lm_head.weight")["data_offsets"][0]  # the last
    text = json.dumps(header).encode() + b" " * shift
    write_safetensors(folder / "model.safetensors", text, data[:end])
    params = from_pretrained(folder).params
    assert not np.shares_memory(params["lm_head.weight"], params["embedding.weight"])
    for name, array in model.params.items():
        assert params[name].flags.aligned
        expected = model.params["embedding.weight"] if name == "lm_head.weight" else array
        np.testing.assert_array_equal(params[name], expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "longdouble", "complex128", int])
def test_a_model_computes_in_float32_or_float64(dtype: Any, tmp_path: Path) -> None:
    save_pretrained(large(), tmp_path / "model")
    with pytest.raises(DTypeError, match="dtype: expected one of float32, float64; got "):
        from_pretrained(tmp_path / "model", dtype=dtype)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    options: Any = {"progress": lambda done, total: told.append((done, total))}
    model = large()
    save_pretrained(model, tmp_path / "model", dtype="float16")
    from_pretrained(tmp_path / "model", **options)
    total = 2 * model.num_parameters
    assert told[-1] == (total, total)
    assert len(told) == len(model.params)
    assert all(a < b for (a, _), (b, _) in pairwise(told))


def test_parts_come_before_the_best_model_of_a_run(tmp_path: Path) -> None:
    folder = write("xlstm-large", tmp_path)
    expected = from_pretrained(folder).state_dict()
    save_pretrained(lstm(), folder / "best.safetensors")
    found = from_pretrained(folder).state_dict()
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
