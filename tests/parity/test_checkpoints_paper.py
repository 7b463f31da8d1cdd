"""The xLSTM paper's models: state dicts in every layout, configurations, names."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import from_pretrained, save_pretrained, xLSTMBlockStack, xLSTMLMModel
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.layers.activations import ACTIVATIONS
from tests.models.build import assert_same, draw_input, fill, make, slstm_block
from tests.parity.official import (
    PAPER,
    REASON,
    T,
    assert_exact,
    cells,
    official,
    paper,
    safetensors,
    scramble,
    stack_of,
    torch,
    write_paper,
    xlstm,
    yaml,
)

dacite = pytest.importorskip("dacite", reason=REASON.format("dacite"))
omegaconf = pytest.importorskip("omegaconf", reason=REASON.format("omegaconf"))

ACT_FNS = sorted(ACTIVATIONS.keys() - {"gelu_tanh"})
CONFIGS: dict[str, Callable[[], Any]] = {
    **PAPER,
    **{f: partial(paper, slstm_block=slstm_block(ffn={"act_fn": f})) for f in ACT_FNS},
    "stack": lambda: stack_of(PAPER["mixed"]()),
}
"""Their language models and their stack, also with every activation that is written."""
OF_ALL_SHAPES = ("slstm-only", "kernels", "four-heads", "stack")
"""Models with one, two and four heads, and a stack alone."""


@pytest.mark.parametrize(
    ("name", "layout"),
    [*((name, "vanilla") for name in CONFIGS), *((name, "cuda") for name in OF_ALL_SHAPES)],
)
def test_theirs_is_read(name: str, layout: str, tmp_path: Path) -> None:
    theirs = scramble(official(CONFIGS[name]()))
    ours = from_pretrained(write_paper(theirs, tmp_path / "model", layout))
    assert isinstance(ours, xLSTMBlockStack if name == "stack" else xLSTMLMModel)
    assert_exact(ours, theirs, draw_input(ours, T))


@pytest.mark.parametrize(
    ("name", "through"),
    [*((name, "dacite") for name in CONFIGS), *((name, "omegaconf") for name in OF_ALL_SHAPES)],
)
def test_theirs_takes_ours(name: str, through: str, tmp_path: Path) -> None:
    config, rng = dataclasses.replace(CONFIGS[name](), context_length=-1), np.random.default_rng(0)
    kind = xLSTMBlockStack if name == "stack" else xLSTMLMModel
    ours = fill(kind(config, rng=rng), rng, 0.4)
    assert_exact(ours, read_paper(ours, tmp_path / "model", through), draw_input(ours, T))


def read_paper(ours: Any, folder: Path, through: str) -> Any:
    """Build a model from YAML as in the README of the package, or with omegaconf."""
    save_pretrained(ours, folder, format="xlstm")
    values = yaml.safe_load((folder / "config.yaml").read_text())
    if through == "omegaconf":
        values = omegaconf.OmegaConf.load(folder / "config.yaml")
        values = omegaconf.OmegaConf.to_container(values)
    kind = getattr(xlstm, type(ours).__name__)
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
    theirs = scramble(official(PAPER["mixed"]()))
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


def test_of_two_tied_matrices_the_heads_is_read(tmp_path: Path) -> None:
    """Both are in the file, and differ: their ``load_state_dict`` copies the head's last."""
    theirs = scramble(official(PAPER["tied"]()))
    folder = write_paper(theirs, tmp_path / "lm")
    arrays = {name: array.clone() for name, array in theirs.state_dict().items()}
    arrays["token_embedding.weight"] += 1
    safetensors.save_file(arrays, folder / "model.safetensors")
    theirs.load_state_dict(arrays)
    ours = from_pretrained(folder)
    assert_exact(ours, theirs, draw_input(ours, T))


def test_newer_versions_store_another_shape(tmp_path: Path) -> None:
    theirs = scramble(official(PAPER["mixed"]()))
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
