"""Checkpoints of the official packages: theirs read here, ours read there, strictly, and back."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    from_official_state,
    from_pretrained,
    save_pretrained,
    to_official_state,
    with_weight_mode,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLarge,
    xLSTMLMModel,
)
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import Array
from tests.models.build import (
    B,
    assert_close,
    assert_same,
    draw_tokens,
    fill,
    flat,
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
dacite = pytest.importorskip("dacite", reason=REASON.format("dacite"))
omegaconf = pytest.importorskip("omegaconf", reason=REASON.format("omegaconf"))
yaml = pytest.importorskip("yaml", reason="PyYAML (the extra 'yaml') is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason=REASON.format("safetensors"))

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
]
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
    """Random numbers in every parameter, as no start has them."""
    rng = np.random.default_rng(4)
    for name, array in theirs.named_parameters():
        array.data.copy_(torch.tensor(drawn(name, tuple(array.shape), rng)))
    return theirs


def drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Numbers for which float32 is enough: q·n is not near 0 where it counts, norms are near 1."""
    if len(shape) == 1:
        return rng.standard_normal(shape) * 0.3 + ("norm" in name and "weight" in name)
    if "embedding" in name:
        return rng.standard_normal(shape)
    return rng.standard_normal(shape) * (0.2 / max(8, shape[-1])) ** 0.5


def made(config: Any, dtype: Any = np.float64) -> Any:
    """A model of ours with such numbers."""
    ours, rng = make(config, dtype=dtype), np.random.default_rng(4)
    for name, array in ours.params.items():
        array[...] = drawn(name, array.shape, rng)
    return ours


def gradients(ours: Any, theirs: Any, logits: Any, tokens: Array) -> tuple[Any, Any, Any]:
    """Logits of ours and gradients of both, from the same cotangent."""
    cotangent = np.random.default_rng(3).standard_normal(tuple(logits.shape))
    (logits * torch.tensor(cotangent, dtype=logits.dtype)).sum().backward()
    y, _, cache = ours.forward(tokens, start(ours))
    grads = ours.backward(cotangent.astype(y.dtype), cache)[-1]
    found = {name: p.grad.double().numpy() for name, p in theirs.named_parameters()}
    return y, grads, found


def start(ours: Any) -> Any:
    """Where their mLSTM starts in chunks: m = 0, so that ε counts as there. None for the others."""
    if not isinstance(ours, xLSTMLarge):
        return None
    return from_official_state(ours, to_official_state(ours, ours.init_state(B)), keep_m=True)


def assert_exact(ours: Any, theirs: Any, logits: Any, tokens: Array) -> None:
    y, grads, expected = gradients(ours, theirs, logits, tokens)
    assert_close({"y": y}, {"y": logits.detach().numpy()}, FORWARD)
    assert_close(grads, expected, GRADIENTS)


# xLSTM Large: the folder of the package xlstm


def large_model(dtype: Any = torch.float64, **options: Any) -> Any:
    sizes = {"embedding_dim": 64, "num_heads": 2, "num_blocks": 2, "vocab_size": 31}
    precise = FLOAT64 if dtype == torch.float64 else {"autocast_kernel_dtype": "float32"}
    config = large.xLSTMLargeConfig(**(sizes | KERNELS | precise | options))
    return scramble(large.xLSTMLarge(config).to(dtype))


def write_large(theirs: Any, folder: Path, shards: int = 1) -> Path:
    """As they are published: nothing in the package writes one."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(theirs.config)))
    arrays = list(theirs.state_dict().items())
    for n in range(shards):
        name = "model.safetensors" if shards == 1 else f"model_{n}.safetensors"
        safetensors.save_file(dict(arrays[n::shards]), folder / name)
    return folder


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("options", [{}, {"use_bias": True}, {"weight_mode": "fused"}], ids=str)
def test_their_large_is_read(options: Any, shards: int, tmp_path: Path) -> None:
    theirs = large_model(**options)
    ours = from_pretrained(write_large(theirs, tmp_path / "large", shards))
    tokens = draw_tokens(T, vocab=31)
    assert isinstance(ours, xLSTMLarge)
    assert_exact(ours, theirs, theirs(torch.tensor(tokens))[0], tokens)


def test_single_weights_under_a_fused_configuration(tmp_path: Path) -> None:
    """Their loader takes separate weights whatever the configuration says."""
    theirs = large_model()
    theirs.config.weight_mode = "fused"
    ours = from_pretrained(write_large(theirs, tmp_path / "large"))
    assert ours.config.weight_mode == "single"
    fused = with_weight_mode(ours, "fused")
    convert = pytest.importorskip("xlstm.xlstm_large.utils").convert_single_weights_to_fused_weights
    expected = {name: a.numpy() for name, a in convert(theirs.state_dict()).items()}
    assert_same(dict(fused.params), {name: expected[name] for name in fused.params})
    assert_same(dict(with_weight_mode(fused, "single").params), dict(ours.params))


@pytest.mark.parametrize("max_shard_size", [None, "60KB"])
@pytest.mark.parametrize("options", [{}, {"use_bias": True}, {"weight_mode": "fused"}], ids=str)
def test_their_loader_takes_our_large(options: Any, max_shard_size: Any, tmp_path: Path) -> None:
    loader = pytest.importorskip("xlstm.xlstm_large.from_pretrained")
    ours = made(large_config(embedding_dim=32, chunk_size=16, **options))
    folder = tmp_path / "large"
    save_pretrained(ours, folder, format="xlstm-large", max_shard_size=max_shard_size)
    assert (folder / "model_2.safetensors").exists() == (max_shard_size is not None)
    theirs = loader.load_from_pretrained(folder, backend_mode="train")
    single = with_weight_mode(ours, "single").astype(np.float32)
    tokens = draw_tokens(T)
    y, grads, expected = gradients(single, theirs, theirs(torch.tensor(tokens))[0], tokens)
    with torch.no_grad():
        assert_close({"y": y}, {"y": theirs(torch.tensor(tokens))[0].numpy()}, 1e-5)
    assert_close_to_largest(grads, expected)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    built = large.xLSTMLarge(large.xLSTMLargeConfig(**config))  # as it is, any length, on a CPU
    built.load_state_dict(safetensors.load_file(folder / "model.safetensors")) if (
        max_shard_size is None
    ) else None
    with torch.no_grad():
        assert built(torch.tensor(draw_tokens(5)))[0].shape == (B, 5, 7)


def assert_close_to_largest(grads: dict[str, Array], expected: dict[str, Array]) -> None:
    """To 1e-5 of each array, or of a hundredth of the largest number in any of them.

    Their gates' gradients in float32 are themselves up to 2.6e-4 off.
    """
    top = max(float(np.abs(array).max()) for array in expected.values())
    for name, array in expected.items():
        scale = max(float(np.abs(array).max()), top / 100)
        assert np.abs(grads[name] - array).max() <= 1e-5 * scale, name


# transformers


@pytest.fixture(scope="module")
def transformers() -> Any:
    found = pytest.importorskip("transformers", reason=REASON.format("transformers"))
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    return found


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


def test_fused_weights(transformers: Any, tmp_path: Path) -> None:
    """Their model cannot be made with them: its initialisation adds arrays of two shapes."""
    with pytest.raises(RuntimeError, match="must match the size"):
        transformers_model(transformers, weight_mode="fused")
    theirs = transformers_model(transformers)
    theirs.save_pretrained(tmp_path)
    single = from_pretrained(tmp_path)
    fused = with_weight_mode(single, "fused")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"weight_mode": "fused"}))
    arrays = {name: torch.tensor(array) for name, array in fused.params.items()}
    safetensors.save_file(arrays, tmp_path / "model.safetensors")
    assert_same(dict(from_pretrained(tmp_path).params), dict(fused.params))
    save_pretrained(fused, tmp_path / "out", format="transformers")
    assert_same(dict(from_pretrained(tmp_path / "out").params), dict(single.params))


@pytest.mark.parametrize("max_shard_size", ["1GB", "40KB"])
@pytest.mark.parametrize("options", [{}, {"use_bias": True}], ids=str)
def test_their_folder_is_read(
    transformers: Any, options: Any, max_shard_size: str, tmp_path: Path
) -> None:
    theirs = transformers_model(transformers, **options)
    theirs.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (tmp_path / "model.safetensors").exists() == (max_shard_size == "1GB")
    ours = from_pretrained(tmp_path)
    assert (ours.special_tokens.bos, ours.special_tokens.eos) == (0, (2,))
    tokens, logits = tokens_of(theirs)
    y, grads, expected = gradients(ours, theirs, logits, tokens)
    grads.pop("backbone.out_norm.bias", None)
    assert_close({"y": y}, {"y": logits.detach().numpy()}, 1e-5)
    assert_close_to_largest(grads, renamed(expected))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_every_dtype_of_theirs_is_read_bit_for_bit(
    transformers: Any, dtype: str, tmp_path: Path
) -> None:
    theirs = transformers_model(transformers).to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path)
    assert ours.dtype == (np.float64 if dtype == "float64" else np.float32)
    wide = torch.float64 if dtype == "float64" else torch.float32
    expected = {name: array.to(wide).numpy() for name, array in theirs.state_dict().items()}
    assert_same(dict(ours.params), renamed(expected))


def test_a_tied_head_that_is_not_in_the_file(transformers: Any, tmp_path: Path) -> None:
    """As older versions of transformers have written it; the present one does not tie."""
    theirs = transformers_model(transformers, tie_word_embeddings=True)
    theirs.save_pretrained(tmp_path)
    arrays = safetensors.load_file(tmp_path / "model.safetensors")
    both = from_pretrained(tmp_path)
    assert np.abs(both.params["lm_head.weight"] - both.params["embedding.weight"]).max() > 0.1
    del arrays["lm_head.weight"]
    safetensors.save_file(arrays, tmp_path / "model.safetensors", {"format": "pt"})
    ours = from_pretrained(tmp_path)
    np.testing.assert_array_equal(ours.params["lm_head.weight"], ours.params["embedding.weight"])
    assert ours.params["lm_head.weight"] is not ours.params["embedding.weight"]


HUB = {
    "add_embedding_dropout": False,
    "add_forward_backend_padding": False,
    "add_out_norm": True,
    "add_post_blocks_norm": True,
    "add_post_norm": False,
    "add_qk_norm": False,
    "architectures": ["xLSTMForCausalLM"],
    "autocast_kernel_dtype": "bfloat16",
    "bos_token_id": 0,
    "cell_norm_eps": 1e-06,
    "chunk_size": 64,
    "chunkwise_kernel": "chunkwise--triton_xl_chunk",
    "embedding_dim": 64,
    "eos_token_id": 2,
    "eps": 1e-06,
    "ffn_proj_factor": 2.667,
    "ffn_round_up_to_multiple_of": 64,
    "force_bos_token_insert": True,
    "gate_soft_cap": 15.0,
    "head_dim": 32,
    "igate_bias_init_range": -10.0,
    "inference_state_dtype": "float32",
    "mlstm_round_up_to_multiple_of": 64,
    "mode": "inference",
    "model_type": "xlstm",
    "norm_eps": 1e-06,
    "norm_reduction_force_float32": True,
    "num_blocks": 2,
    "num_heads": 2,
    "output_logit_soft_cap": 30.0,
    "pad_token_id": 1,
    "qk_dim_factor": 0.5,
    "return_last_states": True,
    "sequence_kernel": "native_sequence__triton",
    "step_kernel": "triton",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.48.0.dev0",
    "use_bias": False,
    "use_cache": True,
    "v_dim_factor": 1.0,
    "vocab_size": 31,
    "weight_mode": "single",
}
"""The fields of the published xLSTM 7B, of a smaller model."""


def test_the_fields_of_the_published_model(transformers: Any, tmp_path: Path) -> None:
    theirs = transformers_model(transformers)
    theirs.save_pretrained(tmp_path)
    expected = from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(HUB))
    assert_same(dict(from_pretrained(tmp_path).params), dict(expected.params))
    for field, value in (("add_qk_norm", True), ("cell_norm_eps", 1e-5), ("num_blocks", 3)):
        (tmp_path / "config.json").write_text(json.dumps(HUB | {field: value}))
        with pytest.raises(CheckpointError, match=rf"config\.json: .*{field}"):
            from_pretrained(tmp_path)


@pytest.mark.parametrize("max_shard_size", [None, "40KB"])
@pytest.mark.parametrize("options", [{}, {"use_bias": True}, {"weight_mode": "fused"}], ids=str)
@pytest.mark.parametrize("width", [24, 128])
def test_transformers_takes_ours(
    transformers: Any, options: Any, max_shard_size: Any, width: int, tmp_path: Path
) -> None:
    config = large_config(embedding_dim=width, chunk_size=16, vocab_size=31, **options)
    ours = made(config, np.float32)
    if "backbone.out_norm.bias" in ours.params:
        ours.params["backbone.out_norm.bias"][...] = 0
    folder = tmp_path / "folder"
    save_pretrained(ours, folder, format="transformers", max_shard_size=max_shard_size)
    theirs, info = transformers.xLSTMForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    assert theirs.config.ffn_proj_factor == 1.5
    tokens = draw_tokens(5, vocab=31)
    with torch.no_grad():  # any length, with the cache if it fits
        assert_close(
            {"y": ours(tokens, start(ours))[0]},
            {"y": theirs(torch.tensor(tokens)).logits.numpy()},
            1e-5,
        )
    for block in theirs.backbone.blocks:
        block.mlstm_layer.mlstm_backend.config.mode = "train"
    tokens, logits = tokens_of(theirs)
    single = with_weight_mode(ours, "single")
    _, grads, expected = gradients(single, theirs, logits, tokens)
    grads.pop("backbone.out_norm.bias", None)
    assert_close_to_largest(grads, renamed(expected))
    theirs.save_pretrained(tmp_path / "back", max_shard_size=max_shard_size or "1GB")
    back = with_weight_mode(from_pretrained(tmp_path / "back"), ours.config.weight_mode)
    assert_same(dict(back.params), dict(ours.params))


def test_greedy_tokens_are_the_same(transformers: Any, tmp_path: Path) -> None:
    ours = made(large_config(embedding_dim=128, chunk_size=16, vocab_size=31), np.float32)
    save_pretrained(ours, tmp_path / "folder", format="transformers")
    theirs = transformers.xLSTMForCausalLM.from_pretrained(tmp_path / "folder")
    tokens = draw_tokens(9, rows=1, vocab=31)
    with torch.no_grad():
        found = theirs.generate(torch.tensor(tokens), max_new_tokens=12, do_sample=False)
    state, ids, step = None, [], tokens
    for _ in range(12):
        logits, state = ours(step, state)
        ids.append(int(logits[0, -1].argmax()))
        step = np.array([[ids[-1]]])
    assert found[0, 9:].tolist() == ids


# xLSTMLMModel and xLSTMBlockStack

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
    """The official model of a configuration of ours, class by class."""

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
    """State dict and configuration, as one would save them; for "cuda", as on a GPU."""
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
    ours = from_pretrained(write_paper(theirs, tmp_path / "stack", layout))
    assert isinstance(ours, xLSTMBlockStack)
    x = np.random.default_rng(0).standard_normal((B, T, 8))
    assert_exact(ours, theirs, theirs(torch.tensor(x)), x)


@pytest.mark.parametrize("through", ["dacite", "omegaconf"])
@pytest.mark.parametrize("name", list(PAPER))
def test_their_language_model_takes_ours(name: str, through: str, tmp_path: Path) -> None:
    ours = make(dataclasses.replace(PAPER[name](), context_length=-1), scale=0.4)
    theirs = read_paper(ours, tmp_path / "lm", through, xlstm.xLSTMLMModel)
    tokens = draw_tokens(T)
    assert_exact(ours, theirs, theirs(torch.tensor(tokens)), tokens)


def test_their_stack_takes_ours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ours = fill(xLSTMBlockStack(stack_of(PAPER["mixed"]()), rng=rng), rng, 0.4)
    theirs = read_paper(ours, tmp_path / "stack", "dacite", xlstm.xLSTMBlockStack)
    x = rng.standard_normal((B, T, 8))
    assert_exact(ours, theirs, theirs(torch.tensor(x)), x)


def read_paper(ours: Any, folder: Path, through: str, kind: Any) -> Any:
    """As the package's README builds a model from YAML, and its experiments with omegaconf."""
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
    """Its parameters, which are made without a GPU, take ours, and are then the same matrices."""
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
    """R put in another order by hand, as on the way from a GPU, and b left as it was."""
    theirs = paper_model(PAPER["mixed"]())
    folder = write_paper(theirs, tmp_path / "lm", "cuda")
    expected = dict(from_pretrained(folder).params)
    arrays = safetensors.load_file(folder / "model.safetensors")
    name = "xlstm_block_stack.blocks.1.xlstm.slstm_cell._recurrent_kernel_"
    arrays[name] = torch.tensor(expected[name]).contiguous()
    safetensors.save_file(arrays, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"_bias_: expected the order of the backend 'cuda'"):
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
    with pytest.raises(CheckpointError, match=r"either order: say which, layout='vanilla'"):
        from_pretrained(folder)
    assert_same(dict(from_pretrained(folder, layout="vanilla").params), expected)


# States


@pytest.mark.parametrize("name", ["mixed", "slstm-only", "kernels"])
def test_states_of_the_paper_go_on_in_both_directions(name: str, tmp_path: Path) -> None:
    theirs = paper_model(PAPER[name]())
    ours = from_pretrained(write_paper(theirs, tmp_path / "lm"))
    tokens = draw_tokens(12)
    with torch.no_grad():
        state = None
        for t in range(6):
            _, state = theirs.step(torch.tensor(tokens[:, t : t + 1]), state)
        assert state is not None
        ours_now = from_official_state(ours, state)
        back = torch_state(to_official_state(ours, ours_now))
        for t in range(6, 12):
            expected, state = theirs.step(torch.tensor(tokens[:, t : t + 1]), state)
            again, back = theirs.step(torch.tensor(tokens[:, t : t + 1]), back)
            found, ours_now = ours(tokens[:, t : t + 1], ours_now)
            assert_close({"y": found}, {"y": expected.numpy()}, FORWARD)
            assert_close({"y": again.numpy()}, {"y": expected.numpy()}, 1e-14)
    assert_close(flat(ours_now), flat(from_official_state(ours, state)), FORWARD)


def torch_state(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: torch_state(value) for key, value in state.items()}
    if isinstance(state, tuple | list):
        return type(state)(torch_state(value) for value in state)
    return None if state is None else torch.tensor(state)


def test_states_of_large_go_on_in_both_directions(tmp_path: Path) -> None:
    """In whole chunks: theirs pads others with a forget gate that is not quite 1."""
    theirs = large_model(qk_dim_factor=0.25)
    ours = from_pretrained(write_large(theirs, tmp_path / "large"))
    tokens = draw_tokens(32, vocab=31)
    with torch.no_grad():
        _, state = theirs(torch.tensor(tokens[:, :16]))
        ours_now = from_official_state(ours, state)
        assert_close(flat(ours_now), flat(ours(tokens[:, :16], start(ours))[1]), FORWARD)
        back = torch_state(to_official_state(ours, ours_now))
        again, _ = theirs(torch.tensor(tokens[:, 16:]), back)
        expected, state = theirs(torch.tensor(tokens[:, 16:]), state)
    found, ours_now = ours(tokens[:, 16:], ours_now)
    assert_close({"y": found}, {"y": expected.numpy()}, FORWARD)
    assert_close({"y": again.numpy()}, {"y": expected.numpy()}, 1e-13)
    assert_close(flat(ours_now), flat(from_official_state(ours, state)), FORWARD)


def test_the_cache_of_transformers(transformers: Any, tmp_path: Path) -> None:
    theirs = transformers_model(transformers, hidden_size=128, mode="inference").eval()
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path)
    tokens = draw_tokens(12, vocab=31)
    with torch.no_grad():
        first = theirs(torch.tensor(tokens[:, :6]), use_cache=True)
        ours_now = from_official_state(ours, first.cache.rnn_state)
        second = theirs(torch.tensor(tokens[:, 6:]), cache=first.cache, use_cache=True)
    found, _ = ours(tokens[:, 6:], ours_now)
    assert_close({"y": found}, {"y": second.logits.numpy()}, 1e-5)


def test_the_empty_state_is_theirs(tmp_path: Path) -> None:
    """m = 0 there and −∞ here; with m = 0 kept, their steps are met to the last digits."""
    theirs = paper_model(PAPER["mixed"]())
    ours = from_pretrained(write_paper(theirs, tmp_path / "lm"))
    empty = to_official_state(ours, ours.init_state(B))
    assert (
        all(np.isfinite(a).all() for _, a in flat(from_official_state(ours, empty)).items())
        is False
    )
    tokens = draw_tokens(1)
    with torch.no_grad():
        expected, _ = theirs.step(torch.tensor(tokens))
    found, _ = ours(tokens, from_official_state(ours, empty, keep_m=True))
    assert_close({"y": found}, {"y": expected.numpy()}, 1e-14)
    found, _ = ours(tokens, from_official_state(ours, empty))
    assert_same({"y": found}, {"y": ours(tokens)[0]})
