"""Conversion of xLSTM Large between separate ("single") and fused matrices."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from numpy_xlstm.models.large_config import xLSTMLargeConfig
from numpy_xlstm.models.official import xLSTMLarge
from numpy_xlstm.models.skeleton import MetaInitialisation
from numpy_xlstm.numerics import Array, check_choice, check_kind

FUSED = {
    "qkv_opreact": ("q", "k", "v", "ogate_preact"),
    "ifgate_preact": ("igate_preact", "fgate_preact"),
    "proj_up_gate_z": ("proj_up_gate", "proj_up"),
}
"""The maps whose rows each fused matrix contains, in order."""


def with_weight_mode(model: xLSTMLarge, weight_mode: str) -> xLSTMLarge:
    """Return an equal xLSTM Large whose maps are stored separately or fused.

    Parameters
    ----------
    model : xLSTMLarge
        The model, which is not modified. Arrays that are unchanged or split are not copied.
    weight_mode : {"single", "fused"}
        Storage of the maps in the result.

    Returns
    -------
    xLSTMLarge
        A model that computes the same function, or ``model`` itself if it has this weight mode.

    Examples
    --------
    >>> config = xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9)
    >>> fused = with_weight_mode(xLSTMLarge(config), "fused")
    >>> fused.params["backbone.blocks.0.mlstm_layer.qkv_opreact.weight"].shape
    (48, 16)
    """
    check_kind("model", model, xLSTMLarge)
    check_choice("weight_mode", weight_mode, ("single", "fused"))
    if model.config.weight_mode == weight_mode:
        return model
    change = _joined if weight_mode == "fused" else _split
    params = change(model.params, model.config)
    config = replace(model.config, weight_mode=weight_mode)  # type: ignore[arg-type]
    other = xLSTMLarge(config, rng=MetaInitialisation()).over(params)
    other.special_tokens = model.special_tokens
    return other


def _joined(params: Mapping[str, Array], config: xLSTMLargeConfig) -> dict[str, Array]:
    found: dict[str, Array] = {}
    firsts = {parts[0]: (name, parts) for name, parts in FUSED.items()}
    later = {part for parts in FUSED.values() for part in parts[1:]}
    for name, array in params.items():
        module, part, kind = _parts(name)
        if part in firsts:
            fused, parts = firsts[part]
            rows = [params[f"{module}.{each}.{kind}"] for each in parts]
            found[f"{module}.{fused}.{kind}"] = np.concatenate(rows)
        elif part not in later:
            found[name] = array
    return found


def _split(params: Mapping[str, Array], config: xLSTMLargeConfig) -> dict[str, Array]:
    QK, V, NH = config.qk_dim, config.v_dim, config.num_heads
    ends = {"qkv_opreact": (QK, 2 * QK, 2 * QK + V), "ifgate_preact": (NH,)}
    ends["proj_up_gate_z"] = (config.ffn_dim,)
    found: dict[str, Array] = {}
    for name, array in params.items():
        module, part, kind = _parts(name)
        if part in FUSED:
            rows = np.split(array, ends[part])
            names = (f"{module}.{each}.{kind}" for each in FUSED[part])
            found |= dict(zip(names, rows, strict=True))
        else:
            found[name] = array
    return found


def _parts(name: str) -> tuple[str, str, str]:
    """Split a name into the path of the module, the name of the map, and "weight" or "bias"."""
    *module, part, kind = ("", *name.split("."))
    return ".".join(module).lstrip("."), part, kind
