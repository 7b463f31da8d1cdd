"""The formats of the package ``xlstm``: xLSTM Large, and the models of the xLSTM paper.

Fields may be absent when a configuration is read; they then have the default of that package. All
fields are written, with values for a CPU.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.description import Format, Saving
from numpy_xlstm.checkpoints.official import open_official
from numpy_xlstm.checkpoints.writing import stored_dtype, write_folder
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
from numpy_xlstm.models.layouts import in_layout

CONTEXT_LENGTH = 2048
"""Value written for a ``context_length`` of −1, which the official model does not support."""

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


def large_fields(config: xLSTMLargeConfig) -> dict[str, Any]:
    """Return all fields of ``xlstm``'s xLSTMLargeConfig, with values for a CPU."""
    return config.to_dict() | ON_A_CPU


def paper_fields(config: xLSTMBlockStackConfig, layout: str) -> dict[str, Any]:
    """Return the nested fields of ``xlstm``'s xLSTMLMModelConfig or xLSTMBlockStackConfig.

    ``layout`` is that of the sLSTM's parameters, and also the backend that reads them.
    """
    _check_runs(config)
    values = config.to_dict()
    places = [n for n, kind in enumerate(config.kinds) if kind == "slstm"]
    length = config.context_length if config.context_length > 0 else CONTEXT_LENGTH
    values |= {"slstm_at": places, "context_length": length}
    shared = {"embedding_dim": config.embedding_dim, "dropout": config.dropout}
    if values["mlstm_block"] is not None:
        layer = values["mlstm_block"]["mlstm"]
        layer |= shared | {"bias": config.bias, "context_length": length}
    if values["slstm_block"] is not None:
        block, layer = values["slstm_block"], values["slstm_block"]["slstm"]
        layer |= shared | {"hidden_size": config.embedding_dim, "backend": layout}
        if layout == "vanilla":  # the defaults are number formats of GPU kernels
            layer |= {"dtype": "float32", "enable_automatic_mixed_precision": False}
        if layer["bias_init"] == "zeros":  # unknown to xlstm; the file has the bias
            layer["bias_init"] = "standard"
        if block["feedforward"] is not None:
            block["feedforward"]["embedding_dim"] = config.embedding_dim
    return values


def _check_runs(config: xLSTMBlockStackConfig) -> None:
    for kind in ("mlstm", "slstm"):
        block = getattr(config, f"{kind}_block")
        if config.count(kind) and getattr(block, kind).conv1d_kernel_size == 1:
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


def _paper_config(values: Mapping[str, Any]) -> tuple[xLSTMBlockStackConfig, SpecialTokens]:
    kind = xLSTMLMModelConfig if "vocab_size" in values else xLSTMBlockStackConfig
    return kind.from_dict(values), SpecialTokens()


def _large_config(values: Mapping[str, Any]) -> tuple[xLSTMLargeConfig, SpecialTokens]:
    return xLSTMLargeConfig.from_dict(values), SpecialTokens()


def _write_paper(model: Any, path: Path, options: Saving) -> None:
    stored_dtype(model, options.dtype)
    arrays = in_layout(dict(model.params), options.layout)
    if model.shared is not None:
        arrays[model.shared[0]] = arrays[model.shared[1]]
    fields = paper_fields(model.config, options.layout)
    write_folder(path, "config.yaml", fields, arrays, options)


def _write_large(model: xLSTMLarge, path: Path, options: Saving) -> None:
    stored_dtype(model, options.dtype)
    single = with_weight_mode(model, "single")
    write_folder(path, "config.yaml", large_fields(single.config), single.params, options)


XLSTM: Format = Format(
    "xlstm",
    (xLSTMLMModel, xLSTMBlockStack),
    lambda content: not content.values.keys().isdisjoint({"mlstm_block", "slstm_block"}),
    lambda content: open_official(content, XLSTM, _paper_config),
    _write_paper,
)
"""``config.yaml`` for ``xLSTMLMModelConfig`` or ``xLSTMBlockStackConfig`` through dacite, and the
state dict. ``layout`` is the backend in whose layout R and b of an sLSTM are stored."""

XLSTM_LARGE: Format = Format(
    "xlstm-large",
    (xLSTMLarge,),
    lambda content: {"embedding_dim", "num_heads"} <= content.values.keys(),
    lambda content: open_official(content, XLSTM_LARGE, _large_config),
    _write_large,
)
"""``config.yaml`` and ``.safetensors`` for ``load_from_pretrained(path)``."""
