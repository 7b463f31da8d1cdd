"""Models of the packages ``xlstm`` and transformers: with our weights, with others, as files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import mLSTMState, xLSTMBlockStackConfig, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.models import mLSTMBlockState
from numpy_xlstm.numerics import Array
from tests.models.build import (
    B,
    assert_close,
    draw_tokens,
    large_config,
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
yaml = pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason=REASON.format("safetensors"))

torch.set_num_threads(1)  # the models are tiny

T = 32
"""Two chunks of 16, the smallest size that their xLSTM Large supports."""
FORWARD, GRADIENTS = 1e-10, 1e-9
CELL = "xlstm_block_stack.blocks.1.xlstm.slstm_cell"

# Configurations


def paper(**options: Any) -> Any:
    return lm_config(**({"context_length": 64} | options))


PAPER: dict[str, Callable[[], Any]] = {
    "mixed": paper,
    "mlstm-only": lambda: paper(slstm_at=[], slstm_block=None),
    "slstm-only": lambda: paper(slstm_at="all", mlstm_block=None),
    "tied": lambda: paper(tie_weights=True),
    "biased": lambda: paper(
        bias=True, slstm_block=slstm_block(ffn={"bias": True, "act_fn": "swish"})
    ),
    "tied-biased": lambda: paper(tie_weights=True, bias=True, slstm_at=[0, 2]),
    "no-ffn": lambda: paper(slstm_block=slstm_block(ffn=False, group_norm_weight=False)),
    "no-conv": lambda: paper(
        slstm_block=slstm_block(conv1d_kernel_size=0), add_post_blocks_norm=False
    ),
    "kernels": lambda: paper(
        mlstm_block=mlstm_block(conv1d_kernel_size=2, qkv_proj_blocksize=2),
        slstm_block=slstm_block(conv1d_kernel_size=3, num_heads=1),
    ),
    "four-heads": lambda: paper(slstm_block=slstm_block(num_heads=4)),
}
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
LARGE: dict[str, dict[str, Any]] = {
    "large-single": {},
    "large-single-bias": {"use_bias": True},
    "large-fused": {"weight_mode": "fused"},
    "large-fused-bias": {"weight_mode": "fused", "use_bias": True},
    "large-no-out-norm": {"add_out_norm": False},
}


def stack_of(config: Any) -> Any:
    """Return the configuration of the blocks of a language model."""
    names = [field.name for field in dataclasses.fields(xLSTMBlockStackConfig)]
    values = {name: value for name, value in config.to_dict().items() if name in names}
    return xLSTMBlockStackConfig.from_dict(values)


# Models


def translated(config: Any) -> Any:
    """Return the official configuration with the same values, for a CPU, class by class."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    values = {n: translated(v) if dataclasses.is_dataclass(v) else v for n, v in values.items()}
    if "backend" in values:
        cpu = {"backend": "vanilla", "dtype": "float32", "enable_automatic_mixed_precision": False}
        values |= cpu
    return getattr(xlstm, type(config).__name__)(**values)


def official(config: Any) -> Any:
    """Make the official model in float64 for a configuration of this package."""
    if isinstance(config, xLSTMLargeConfig):
        return large.xLSTMLarge(large.xLSTMLargeConfig(**config.to_dict())).double()
    kind = xlstm.xLSTMLMModel if hasattr(config, "vocab_size") else xlstm.xLSTMBlockStack
    return kind(translated(config)).double()


def with_weights(theirs: Any, ours: Any) -> Any:
    """Copy our weights into their model by name."""
    arrays = ours.state_dict()
    assert set(arrays) == set(theirs.state_dict())
    theirs.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    return theirs


def pair(name: str, **options: Any) -> tuple[Any, Any]:
    """Make one of PAPER or of LARGE here and there, with the same weights."""
    if name in PAPER:
        ours: Any = make(PAPER[name](), scale=0.4)
    else:
        given = {"embedding_dim": 32} | KERNELS | FLOAT64 | LARGE[name] | options
        ours = make(large_config(**given), scale=0.3)
    return ours, with_weights(official(ours.config), ours)


def drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Return numbers suited to float32: no critical q·n near 0, and norms near 1."""
    if len(shape) == 1:
        return rng.standard_normal(shape) * 0.3 + ("norm" in name and "weight" in name)
    if "embedding" in name:
        return rng.standard_normal(shape)
    return rng.standard_normal(shape) * (0.2 / max(8, shape[-1])) ** 0.5


def scramble(theirs: Any) -> Any:
    """Fill every parameter of their model with such numbers, unlike initial values."""
    rng = np.random.default_rng(4)
    for name, array in theirs.named_parameters():
        array.data.copy_(torch.tensor(drawn(name, tuple(array.shape), rng)))
    return theirs


def made(config: Any, dtype: Any = np.float64) -> Any:
    """Make a model of this package with such numbers."""
    ours, rng = make(config, dtype=dtype), np.random.default_rng(4)
    for name, array in ours.params.items():
        array[...] = drawn(name, array.shape, rng)
    return ours


def large_model(**options: Any) -> Any:
    sizes = {"embedding_dim": 64, "vocab_size": 31}
    return scramble(official(large_config(**(sizes | KERNELS | FLOAT64 | options))))


def transformers_model(transformers: Any, **options: Any) -> Any:
    sizes = {"hidden_size": 64, "num_heads": 2, "num_hidden_layers": 2, "vocab_size": 31}
    given = {**sizes, **KERNELS, "autocast_kernel_dtype": "float32", **options}
    return scramble(transformers.xLSTMForCausalLM(transformers.xLSTMConfig(**given)))


def tokens_of(theirs: Any) -> tuple[Array, Any]:
    """Return tokens and the logits of a model of transformers."""
    tokens = draw_tokens(T, vocab=31)
    return tokens, theirs(torch.tensor(tokens), use_cache=False).logits


def renamed(named: dict[str, Any]) -> dict[str, Any]:
    """Return arrays of a model of transformers with the names of ``xlstm``."""
    old, new = "backbone.embeddings.", "embedding."
    return {new + n.removeprefix(old) if n.startswith(old) else n: v for n, v in named.items()}


# Comparisons


def from_zero(ours: Any) -> Any:
    """Return the empty state with m = 0 in mLSTM parts, from which their steps start."""

    def zero(memory: mLSTMState) -> mLSTMState:
        assert memory.m is not None
        return memory._replace(m=np.zeros_like(memory.m))

    def start(part: Any) -> Any:
        if isinstance(part, mLSTMBlockState):
            return part._replace(mlstm=zero(part.mlstm))
        return zero(part) if isinstance(part, mLSTMState) else part

    return tuple(start(part) for part in ours.init_state(B))


def start(ours: Any) -> Any:
    """Return the state from which their sequence starts, m = 0 only in xLSTM Large."""
    return from_zero(ours) if isinstance(ours, xLSTMLarge) else None


def gradients(ours: Any, theirs: Any, logits: Any, x: Array) -> tuple[Any, Any, Any]:
    """Return our logits and the gradients of both, from the same cotangent."""
    cotangent = np.random.default_rng(3).standard_normal(tuple(logits.shape))
    (logits * torch.tensor(cotangent, dtype=logits.dtype)).sum().backward()
    y, _, cache = ours.forward(x, start(ours))
    grads = ours.backward(cotangent.astype(y.dtype), cache)[-1]
    return y, grads, {name: p.grad.double().numpy() for name, p in theirs.named_parameters()}


def assert_exact(ours: Any, theirs: Any, x: Array) -> None:
    """Compare outputs and the gradients of all parameters in float64."""
    results = theirs(torch.tensor(x))
    logits = results[0] if isinstance(results, tuple) else results
    y, grads, expected = gradients(ours, theirs, logits, x)
    assert_close({"y": y}, {"y": logits.detach().numpy()}, FORWARD)
    assert_close(grads, expected, GRADIENTS)


def assert_close_to_largest(grads: dict[str, Array], expected: dict[str, Array]) -> None:
    """Compare to 1e-5 of each array, or of a hundredth of the largest number in all arrays.

    Their float32 gradients of gates have errors up to 2.6e-4.
    """
    top = max(float(np.abs(array).max()) for array in expected.values())
    for name, array in expected.items():
        scale = max(float(np.abs(array).max()), top / 100)
        assert np.abs(grads[name] - array).max() <= 1e-5 * scale, name


# Files


def write_large(theirs: Any, folder: Path, shards: int = 1) -> Path:
    """Write a checkpoint as published, which nothing in the official package does."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(theirs.config)))
    arrays = list(theirs.state_dict().items())
    for n in range(shards):
        name = "model.safetensors" if shards == 1 else f"model_{n}.safetensors"
        safetensors.save_file(dict(arrays[n::shards]), folder / name)
    return folder


def in_cuda_layout(arrays: dict[str, Any], layer: Any) -> dict[str, Any]:
    """Return a state dict of the "vanilla" backend in the layout of "cuda"."""
    vanilla, cuda = cells.sLSTMCell(layer), cells.sLSTMCell_cuda(layer, skip_backend_init=True)
    for name in list(arrays):
        for kind in ("_recurrent_kernel", "_bias"):
            if name.endswith(f".slstm_cell.{kind}_"):
                canonical = getattr(vanilla, f"{kind}_int2ext")(arrays[name])
                arrays[name] = getattr(cuda, f"{kind}_ext2int")(canonical)
    return arrays


def write_paper(theirs: Any, folder: Path, layout: str = "vanilla") -> Path:
    """Write state dict and configuration as saved, with "cuda" as on a GPU."""
    folder.mkdir()
    config, arrays = dataclasses.asdict(theirs.config), dict(theirs.state_dict())
    if layout == "cuda":
        config["slstm_block"]["slstm"]["backend"] = "cuda"
        layer = dataclasses.replace(theirs.config.slstm_block.slstm, _block_idx=0)
        arrays = in_cuda_layout(arrays, layer)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    arrays = {name: array.clone().contiguous() for name, array in arrays.items()}
    safetensors.save_file(arrays, folder / "model.safetensors")
    return folder
