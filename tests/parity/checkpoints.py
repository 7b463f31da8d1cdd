"""Helpers for tests of official checkpoints: official models, and functions that write them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import from_official_state, to_official_state, xLSTMBlockStackConfig, xLSTMLarge
from numpy_xlstm.numerics import Array
from tests.models.build import (
    B,
    assert_close,
    draw_tokens,
    lm_config,
    make,
    mlstm_block,
    slstm_block,
)

REASON = "{} (the extra 'peers') is not installed"
torch = pytest.importorskip("torch", reason=REASON.format("PyTorch"))
xlstm = pytest.importorskip("xlstm", reason=REASON.format("xlstm"), exc_type=ImportError)
large = pytest.importorskip("xlstm.xlstm_large.model", reason=REASON, exc_type=ImportError)
cells = pytest.importorskip("xlstm.blocks.slstm.cell", reason=REASON, exc_type=ImportError)
dacite = pytest.importorskip("dacite", reason=REASON.format("dacite"))
omegaconf = pytest.importorskip("omegaconf", reason=REASON.format("omegaconf"))
yaml = pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason=REASON.format("safetensors"))

torch.set_num_threads(1)  # the models are tiny

T = 32
FORWARD, GRADIENTS = 1e-10, 1e-9
KERNELS = {
    "chunkwise_kernel": "chunkwise--native_autograd",
    "sequence_kernel": "native_sequence__native",
    "step_kernel": "native",
    "return_last_states": True,
    "mode": "train",
    "chunk_size": 16,
}
FLOAT64 = {
    "autocast_kernel_dtype": "float64",
    "inference_state_dtype": "float64",
    "norm_reduction_force_float32": False,
}


def scramble(theirs: Any) -> Any:
    """Fill every parameter with random numbers, unlike initial values."""
    rng = np.random.default_rng(4)
    for name, array in theirs.named_parameters():
        array.data.copy_(torch.tensor(drawn(name, tuple(array.shape), rng)))
    return theirs


def drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Return numbers suited to float32: no critical q·n near 0, and norms near 1."""
    if len(shape) == 1:
        return rng.standard_normal(shape) * 0.3 + ("norm" in name and "weight" in name)
    if "embedding" in name:
        return rng.standard_normal(shape)
    return rng.standard_normal(shape) * (0.2 / max(8, shape[-1])) ** 0.5


def made(config: Any, dtype: Any = np.float64) -> Any:
    """Make a model of this package with such numbers."""
    ours, rng = make(config, dtype=dtype), np.random.default_rng(4)
    for name, array in ours.params.items():
        array[...] = drawn(name, array.shape, rng)
    return ours


def gradients(ours: Any, theirs: Any, logits: Any, tokens: Array) -> tuple[Any, Any, Any]:
    """Return logits of this package and gradients of both, from the same cotangent."""
    cotangent = np.random.default_rng(3).standard_normal(tuple(logits.shape))
    (logits * torch.tensor(cotangent, dtype=logits.dtype)).sum().backward()
    y, _, cache = ours.forward(tokens, start(ours))
    grads = ours.backward(cotangent.astype(y.dtype), cache)[-1]
    found = {name: p.grad.double().numpy() for name, p in theirs.named_parameters()}
    return y, grads, found


def start(ours: Any) -> Any:
    """Return the state with m = 0 from which their chunkwise mLSTM starts; None for the others."""
    if not isinstance(ours, xLSTMLarge):
        return None
    return from_official_state(ours, to_official_state(ours, ours.init_state(B)), keep_m=True)


def assert_exact(ours: Any, theirs: Any, logits: Any, tokens: Array) -> None:
    y, grads, expected = gradients(ours, theirs, logits, tokens)
    assert_close({"y": y}, {"y": logits.detach().numpy()}, FORWARD)
    assert_close(grads, expected, GRADIENTS)


def large_model(dtype: Any = torch.float64, **options: Any) -> Any:
    sizes = {"embedding_dim": 64, "num_heads": 2, "num_blocks": 2, "vocab_size": 31}
    precise = FLOAT64 if dtype == torch.float64 else {"autocast_kernel_dtype": "float32"}
    config = large.xLSTMLargeConfig(**(sizes | KERNELS | precise | options))
    return scramble(large.xLSTMLarge(config).to(dtype))


def write_large(theirs: Any, folder: Path, shards: int = 1) -> Path:
    """Write a checkpoint as published, which nothing in the official package does."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(theirs.config)))
    arrays = list(theirs.state_dict().items())
    for n in range(shards):
        name = "model.safetensors" if shards == 1 else f"model_{n}.safetensors"
        safetensors.save_file(dict(arrays[n::shards]), folder / name)
    return folder


def assert_close_to_largest(grads: dict[str, Array], expected: dict[str, Array]) -> None:
    """Compare to 1e-5 of each array, or of a hundredth of the largest number in all arrays.

    Their float32 gradients of gates have errors up to 2.6e-4.
    """
    top = max(float(np.abs(array).max()) for array in expected.values())
    for name, array in expected.items():
        scale = max(float(np.abs(array).max()), top / 100)
        assert np.abs(grads[name] - array).max() <= 1e-5 * scale, name


def tokens_of(theirs: Any) -> tuple[Array, Any]:
    tokens = draw_tokens(T, vocab=31)
    return tokens, theirs(torch.tensor(tokens), use_cache=False).logits


def renamed(named: dict[str, Any]) -> dict[str, Any]:
    old, new = "backbone.embeddings.", "embedding."
    return {new + n.removeprefix(old) if n.startswith(old) else n: v for n, v in named.items()}


def transformers_model(transformers: Any, **options: Any) -> Any:
    sizes = {"hidden_size": 64, "num_heads": 2, "num_hidden_layers": 2, "vocab_size": 31}
    given = {**sizes, **KERNELS, "autocast_kernel_dtype": "float32", **options}
    return scramble(transformers.xLSTMForCausalLM(transformers.xLSTMConfig(**given)))


PLAIN = {"backend": "vanilla", "dtype": "float32", "enable_automatic_mixed_precision": False}
PAPER: dict[str, Callable[[], Any]] = {
    "mixed": lambda: lm_config(context_length=64),
    "mlstm-only": lambda: lm_config(context_length=64, slstm_at=[], slstm_block=None),
    "slstm-only": lambda: lm_config(slstm_at="all", mlstm_block=None),
    "tied": lambda: lm_config(context_length=64, tie_weights=True),
    "biased": lambda: lm_config(context_length=64, bias=True, slstm_at=[0, 2]),
    "no-ffn": lambda: lm_config(context_length=64, slstm_block=slstm_block(ffn=False)),
    "kernels": lambda: lm_config(
        context_length=64,
        mlstm_block=mlstm_block(conv1d_kernel_size=2, qkv_proj_blocksize=2),
        slstm_block=slstm_block(conv1d_kernel_size=0, num_heads=4),
    ),
}


def paper_model(ours: Any) -> Any:
    """Make the official model for a configuration of this package, class by class."""

    def translated(config: Any) -> Any:
        values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        values = {n: translated(v) if dataclasses.is_dataclass(v) else v for n, v in values.items()}
        if "backend" in values:
            values |= PLAIN
        return getattr(xlstm, type(config).__name__)(**values)

    kind = xlstm.xLSTMLMModel if hasattr(ours, "vocab_size") else xlstm.xLSTMBlockStack
    return scramble(kind(translated(ours)).double())


def stack_of(config: Any) -> Any:
    values = {n: v for n, v in config.to_dict().items() if n in STACK}
    return xLSTMBlockStackConfig.from_dict(values)


STACK = [field.name for field in dataclasses.fields(xLSTMBlockStackConfig)]


def write_paper(theirs: Any, folder: Path, layout: str = "vanilla") -> Path:
    """Return state dict and configuration as saved, with "cuda" as on a GPU."""
    folder.mkdir()
    config, arrays = dataclasses.asdict(theirs.config), dict(theirs.state_dict())
    if layout == "cuda":
        layer = dataclasses.replace(theirs.config.slstm_block.slstm, _block_idx=0)
        config["slstm_block"]["slstm"]["backend"] = "cuda"
        vanilla, cuda = cells.sLSTMCell(layer), cells.sLSTMCell_cuda(layer, skip_backend_init=True)
        for name in list(arrays):
            for kind in ("_recurrent_kernel", "_bias"):
                if name.endswith(f".slstm_cell.{kind}_"):
                    canonical = getattr(vanilla, f"{kind}_int2ext")(arrays[name])
                    arrays[name] = getattr(cuda, f"{kind}_ext2int")(canonical)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    arrays = {name: array.clone().contiguous() for name, array in arrays.items()}
    safetensors.save_file(arrays, folder / "model.safetensors")
    return folder
