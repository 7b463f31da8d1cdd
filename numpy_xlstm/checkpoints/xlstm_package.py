"""The formats of the package ``xlstm``: xLSTM Large, and the models of the xLSTM paper.

:func:`open_official` opens models from a configuration and arrays, also those of transformers.

Fields may be absent when a configuration is read; they then have the default of that package. All
fields are written, with values for a CPU.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.description import Content, Format, Pretrained, Saving
from numpy_xlstm.checkpoints.files import write_folder
from numpy_xlstm.checkpoints.loading import Source, building, matched, meta_initialisation
from numpy_xlstm.checkpoints.own import OFFICIAL
from numpy_xlstm.checkpoints.tensors import TOKENIZER
from numpy_xlstm.config import Config
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.models import (
    SpecialTokens,
    with_weight_mode,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.models.state_dict import in_layout

BLOCKS = {"mlstm_block", "slstm_block"}
"""Fields of the models of the paper."""

ON_A_CPU = {
    "chunkwise_kernel": "chunkwise--native_autograd",
    "sequence_kernel": "native_sequence__native",
    "step_kernel": "native",
    "mode": "inference",
    "return_last_states": True,
    "autocast_kernel_dtype": "float32",
    "inference_state_dtype": "float32",
}
"""Fields that select kernels for the CPU, sequences of any length, returned states and float32."""


def open_official(
    content: Content,
    form: str,
    config_of: Callable[[Mapping[str, Any]], tuple[Any, SpecialTokens]],
    zeros: Collection[str] = (),
) -> Pretrained:
    """Open a model of an official package in the format named ``form``.

    ``config_of`` makes the configuration and the special tokens from the values of the file.
    ``zeros`` are parameters that are 0, and in no file.
    """
    assert content.config is not None, "the format is recognised by its configuration"
    file, values = content.config
    arrays = dict(content.arrays)
    rng = meta_initialisation(f"{file.name}: ", values, arrays)
    with building(file.name):
        config, tokens = config_of(values)
        if isinstance(config, xLSTMLargeConfig):
            fused = any(name.endswith(".qkv_opreact.weight") for name in arrays)
            mode: Any = "fused" if fused else "single"  # set by the arrays in both formats
            config = replace(config, weight_mode=mode)
        model = OFFICIAL[type(config)](config, rng=rng)
    if model.shared is not None and model.shared[0] in arrays:
        head, embedding = model.shared
        used, unused = arrays.pop(head), arrays.get(embedding)
        if unused is not None and (unused.shape, unused.dtype) != (used.shape, used.dtype):
            like = f"an array like {head}, {used.shape} {used.dtype}"
            got = f"{unused.shape} {unused.dtype}"
            raise CheckpointError(f"{embedding}: expected {like}; got {got}")
        arrays[embedding] = used  # xlstm, too, keeps the head's if it loads both
    expected = {name: array for name, array in model.params.items() if name not in zeros}
    sources = matched(content.path.name, expected, arrays, content.layout)
    if content.layout is None:
        _check_layout(file, config, sources)
    path = content.folder / TOKENIZER
    tokenizer = path if path.exists() else None
    return Pretrained(content.path, form, model, sources, tokens, tokenizer)


def _check_layout(file: Path, config: Any, sources: Mapping[str, Source]) -> None:
    """Refuse a b whose layout, taken from its R, is not the configuration's."""
    if not isinstance(config, xLSTMBlockStackConfig) or config.slstm_block is None:
        return
    layer = config.slstm_block.slstm
    for source in sources.values():
        # Only a b has heads here; with one, all layouts are the same.
        if source.num_heads > 1 and source.order not in (layer.backend, "canonical"):
            raise CheckpointError(
                f"{source.stored}: expected the layout of the backend {layer.backend!r}, as in "
                f"{file.name}; got R in that of {source.order!r}: pass the layout of the bias, "
                "layout='vanilla' or layout='cuda'"
            )


def paper_fields(config: xLSTMBlockStackConfig, layout: str) -> dict[str, Any]:
    """Return the nested fields of ``xlstm``'s xLSTMLMModelConfig or xLSTMBlockStackConfig.

    ``layout`` is that of the sLSTM's parameters, and also the backend that reads them.
    """
    _check_runs(config)
    mlstm, slstm = config.block_configs()
    values = replace(config, mlstm_block=mlstm, slstm_block=slstm).to_dict()
    values["slstm_at"] = list(config.slstm_places)
    length = config.context_length if config.context_length > 0 else 2048  # xlstm has no −1
    values["context_length"] = length
    if mlstm is not None:
        values["mlstm_block"]["mlstm"]["context_length"] = length
    if slstm is not None:
        layer = values["slstm_block"]["slstm"]
        layer["backend"] = layout
        if layout == "vanilla":  # the defaults are number formats of GPU kernels
            layer |= {"dtype": "float32", "enable_automatic_mixed_precision": False}
        if layer["bias_init"] == "zeros":  # unknown to xlstm; the file has the bias
            layer["bias_init"] = "standard"
    return values


def _check_runs(config: xLSTMBlockStackConfig) -> None:
    for kind in {*config.kinds}:
        if getattr(getattr(config, f"{kind}_block"), kind).conv1d_kernel_size == 1:
            raise CheckpointError(
                f"{kind}_block.{kind}.conv1d_kernel_size: expected a number other than 1, because "
                "the convolution of xlstm has no outputs for 1; got 1"
            )
    up = None if config.slstm_block is None else config.slstm_block.feedforward
    if up is not None and up.act_fn == "gelu_tanh":
        raise CheckpointError(
            "slstm_block.feedforward.act_fn: expected a function of xlstm, such as 'gelu'; "
            "got 'gelu_tanh'"
        )


def _read_paper(content: Content) -> Pretrained | None:
    if BLOCKS.isdisjoint(content.values):
        return None
    kind = xLSTMLMModelConfig if "vocab_size" in content.values else xLSTMBlockStackConfig
    return _open(content, XLSTM.name, kind)


def _read_large(content: Content) -> Pretrained | None:
    if not {"embedding_dim", "num_heads"} <= content.values.keys():
        return None
    return _open(content, XLSTM_LARGE.name, xLSTMLargeConfig)


def _open(content: Content, form: str, kind: type[Config]) -> Pretrained:
    return open_official(content, form, lambda values: (kind.from_dict(values), SpecialTokens()))


def _write_paper(model: Any, path: Path, options: Saving) -> None:
    arrays = in_layout(dict(model.params), options.layout)
    if model.shared is not None:
        arrays[model.shared[0]] = arrays[model.shared[1]]
    fields = paper_fields(model.config, options.layout)
    write_folder(path, "config.yaml", fields, arrays, options)


def _write_large(model: xLSTMLarge, path: Path, options: Saving) -> None:
    single = with_weight_mode(model, "single")
    fields = single.config.to_dict() | ON_A_CPU
    write_folder(path, "config.yaml", fields, single.params, options)


XLSTM = Format(
    "xlstm",
    (xLSTMLMModel, xLSTMBlockStack),
    _read_paper,
    _write_paper,
    options=("tokenizer", "layout"),
)
"""``config.yaml`` for ``xLSTMLMModelConfig`` or ``xLSTMBlockStackConfig`` through dacite, and the
state dict. ``layout`` is the backend in whose layout R and b of an sLSTM are stored."""

XLSTM_LARGE = Format("xlstm-large", (xLSTMLarge,), _read_large, _write_large, is_default=False)
"""``config.yaml`` and ``.safetensors`` for ``load_from_pretrained(path)``."""
