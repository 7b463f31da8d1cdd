"""The xLSTM paper's models: state dicts in every layout, configurations, names."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import from_pretrained, save_pretrained, xLSTMBlockStack, xLSTMLMModel
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.layers.activations import ACTIVATIONS
from tests.models.build import B, assert_same, draw_tokens, fill, lm_config, make, slstm_block
from tests.parity.checkpoints import (
    PAPER,
    T,
    assert_exact,
    cells,
    dacite,
    omegaconf,
    paper_model,
    safetensors,
    stack_of,
    torch,
    write_paper,
    xlstm,
    yaml,
)


def layouts(name: str) -> list[str]:
    return ["vanilla"] if name == "mlstm-only" else ["vanilla", "cuda"]


@pytest.mark.parametrize(("name", "layout"), [(n, each) for n in PAPER for each in layouts(n)])
def test_their_language_model_is_read(name: str, layout: str, tmp_path: Path) -> None:
    theirs = paper_model(PAPER[name]())
    ours = from_pretrained(write_paper(theirs, tmp_path / "lm", layout))
    assert isinstance(ours, xLSTMLMModel)
    tokens = draw_tokens(T)
    assert_exact(ours, theirs, theirs(torch.tensor(tokens)), tokens)


@pytest.mark.parametrize("layout", ["vanilla", "cuda"])
def test_their_stack_is_read(layout: str, tmp_path: Path) -> None:
    theirs = paper_model(stack_of(PAPER["mixed"]()))
    ours = from_pretrained(write_paper(theirs, tmp_path / "stack", layout), xLSTMBlockStack)
    x = np.random.default_rng(0).standard_normal((B, T, 8))
    assert_exact(ours, theirs, theirs(torch.tensor(x)), x)


@pytest.mark.parametrize("through", ["dacite", "omegaconf"])
@pytest.mark.parametrize("name", list(PAPER))
def test_their_language_model_takes_ours(name: str, through: str, tmp_path: Path) -> None:
    ours = make(dataclasses.replace(PAPER[name](), context_length=-1), scale=0.4)
    theirs = read_paper(ours, tmp_path / "lm", through, xlstm.xLSTMLMModel)
    tokens = draw_tokens(T)
    assert_exact(ours, theirs, theirs(torch.tensor(tokens)), tokens)


@pytest.mark.parametrize("act_fn", sorted(ACTIVATIONS.keys() - {"gelu_tanh"}))
def test_their_model_has_every_activation_that_is_written(act_fn: str, tmp_path: Path) -> None:
    ours = make(lm_config(slstm_block=slstm_block(ffn={"act_fn": act_fn})), scale=0.4)
    theirs = read_paper(ours, tmp_path / "lm", "dacite", xlstm.xLSTMLMModel)
    tokens = draw_tokens(T)
    assert_exact(ours, theirs, theirs(torch.tensor(tokens)), tokens)


def test_their_stack_takes_ours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ours = fill(xLSTMBlockStack(stack_of(PAPER["mixed"]()), rng=rng), rng, 0.4)
    theirs = read_paper(ours, tmp_path / "stack", "dacite", xlstm.xLSTMBlockStack)
    x = rng.standard_normal((B, T, 8))
    assert_exact(ours, theirs, theirs(torch.tensor(x)), x)


def read_paper(ours: Any, folder: Path, through: str, kind: Any) -> Any:
    """Build a model from YAML as in the README of the package, or with omegaconf."""
    save_pretrained(ours, folder, format="xlstm")
    values = yaml.safe_load((folder / "config.yaml").read_text())
    if through == "omegaconf":
        values = omegaconf.OmegaConf.load(folder / "config.yaml")
        values = omegaconf.OmegaConf.to_container(values)
    config = dacite.from_dict(kind.config_class, values, dacite.Config(strict=True))
    theirs = kind(config).double()
    theirs.load_state_dict(safetensors.load_file(folder / "model.safetensors"), strict=True)
    return theirs


def test_what_we_write_for_their_gpu_backend(tmp_path: Path) -> None:
    """Its parameters can be made without a GPU, and accept ours as the same matrices."""
    ours = make(PAPER["mixed"](), scale=0.4)
    save_pretrained(ours, tmp_path / "lm", format="xlstm", layout="cuda")
    values = yaml.safe_load((tmp_path / "lm" / "config.yaml").read_text())
    config = dacite.from_dict(xlstm.xLSTMLMModelConfig, values, dacite.Config(strict=True))
    layer = dataclasses.replace(config.slstm_block.slstm, _block_idx=0)
    assert layer.backend == "cuda"
    cuda = cells.sLSTMCell_cuda(layer, skip_backend_init=True).double()
    arrays, prefix = safetensors.load_file(tmp_path / "lm" / "model.safetensors"), "slstm_cell."
    found = {n.partition(prefix)[2]: a for n, a in arrays.items() if prefix in n}
    cuda.load_state_dict(found, strict=True)
    vanilla = cells.sLSTMCell_vanilla(layer, skip_backend_init=True)
    for kind in ("_recurrent_kernel", "_bias"):
        canonical = getattr(cuda, f"{kind}_int2ext")(found[f"{kind}_"])
        expected = getattr(vanilla, f"{kind}_ext2int")(canonical).numpy()
        name = f"xlstm_block_stack.blocks.1.xlstm.{prefix}{kind}_"
        np.testing.assert_array_equal(ours.params[name], expected)


def test_names_of_compiled_and_wrapped_modules(tmp_path: Path) -> None:
    theirs = paper_model(PAPER["mixed"]())
    folder = write_paper(theirs, tmp_path / "lm")
    expected = dict(from_pretrained(folder).params)
    blocks = theirs.xlstm_block_stack.blocks
    blocks[1] = torch.compile(blocks[1])  # never run, so that nothing is compiled
    holder = torch.nn.Module()
    holder.model = torch.nn.DataParallel(torch.compile(theirs))
    arrays = {name: array.clone() for name, array in holder.state_dict().items()}
    assert "model.module._orig_mod.xlstm_block_stack.blocks.1._orig_mod.ffn_norm.weight" in arrays
    safetensors.save_file(arrays, folder / "model.safetensors")
    assert_same(dict(from_pretrained(folder).params), expected)
    other = make(PAPER["mixed"](), seed=8)
    other.load_state_dict({name: array.numpy() for name, array in arrays.items()})
    assert_same(dict(other.params), expected)


def test_a_bias_is_never_scrambled(tmp_path: Path) -> None:
    """R is reordered by hand, as after a transfer from a GPU, and b is not."""
    theirs = paper_model(PAPER["mixed"]())
    folder = write_paper(theirs, tmp_path / "lm", "cuda")
    expected = dict(from_pretrained(folder).params)
    arrays = safetensors.load_file(folder / "model.safetensors")
    name = "xlstm_block_stack.blocks.1.xlstm.slstm_cell._recurrent_kernel_"
    arrays[name] = torch.tensor(expected[name]).contiguous()
    safetensors.save_file(arrays, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"_bias_: expected the layout of the backend 'cuda'"):
        from_pretrained(folder)
    assert_same(dict(from_pretrained(folder, layout="cuda").params), expected)
    wrong, bias = (
        from_pretrained(folder, layout="vanilla"),
        name.replace("recurrent_kernel", "bias"),
    )
    assert np.abs(wrong.params[bias] - expected[bias]).max() > 0.1


def test_newer_versions_store_another_shape(tmp_path: Path) -> None:
    theirs = paper_model(PAPER["mixed"]())
    folder = write_paper(theirs, tmp_path / "lm")
    expected = dict(from_pretrained(folder).params)
    arrays = safetensors.load_file(folder / "model.safetensors")
    cell = "xlstm_block_stack.blocks.1.xlstm.slstm_cell."
    module, flat_bias = theirs.xlstm_block_stack.blocks[1].xlstm.slstm_cell, arrays[f"{cell}_bias_"]
    for kind in ("_recurrent_kernel", "_bias"):
        canonical = getattr(module, f"{kind}_int2ext")(arrays[f"{cell}{kind}_"])
        arrays[f"{cell}{kind}_"] = canonical.contiguous()
    assert arrays[f"{cell}_recurrent_kernel_"].shape == (2, 4, 4, 4)
    safetensors.save_file(arrays, folder / "model.safetensors")
    assert_same(dict(from_pretrained(folder).params), expected)
    arrays[f"{cell}_bias_"] = flat_bias
    safetensors.save_file(arrays, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"ambiguous: pass layout='vanilla'"):
        from_pretrained(folder)
    assert_same(dict(from_pretrained(folder, layout="vanilla").params), expected)
