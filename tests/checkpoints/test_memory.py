"""The peak memory for loading a checkpoint in eight files."""

import sys
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import from_pretrained, save_pretrained, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.numerics.initial import ShapesOnly
from tests.checkpoints.build import split
from tests.checkpoints.measure import now, peak

if sys.platform == "win32":
    pytest.skip("Windows does not tell the peak of a process this way", allow_module_level=True)


def write(folder: Path, numbers: int, dtype: str) -> None:
    """Save a random model of about this count of numbers."""
    width = 1024 if numbers > 100_000_000 else 512
    blocks = max(1, round(numbers / (12.3 * width**2)))
    config = xLSTMLargeConfig(width, num_heads=4, num_blocks=blocks, vocab_size=8 * width)
    model, rng = xLSTMLarge(config, rng=ShapesOnly()), np.random.default_rng(0)
    params = {n: rng.random(a.shape, np.float32) - 0.5 for n, a in model.params.items()}
    save_pretrained(model.with_params(params), folder, dtype=dtype)
    split(folder, 8)


def load(folder: Path) -> tuple[int, float]:
    """Return the size of the parameters in bytes, and the peak memory relative to it."""
    before = now()
    model = from_pretrained(folder)
    size = sum(array.nbytes for array in model.params.values())
    return size, (peak() - before) / size


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [130_000_000, pytest.param(1_300_000_000, marks=pytest.mark.long)])
def test_a_checkpoint_in_eight_files(size: int, dtype: str, tmp_path: Path) -> None:
    from tests.reliability.children import ask  # which Windows cannot import

    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="ml_dtypes (checkpoints) is not installed")
    write(tmp_path / "model", size // (4 if dtype == "float32" else 2), dtype)
    assert len([*tmp_path.glob("model/*.safetensors")]) == 8
    loaded, memory = ask(load, tmp_path / "model").said
    assert loaded > 0.9 * size * (1 if dtype == "float32" else 2)
    assert memory < 1.2
