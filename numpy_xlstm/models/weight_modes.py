"""Conversion of xLSTM Large between separate ("single") and fused matrices."""

from dataclasses import replace
from itertools import product

import numpy as np

from numpy_xlstm.models.official import xLSTMLarge
from numpy_xlstm.models.skeleton import MetaInitialisation
from numpy_xlstm.numerics import check_choice, check_kind

FUSED = {
    "mlstm_layer.qkv_opreact": [f"mlstm_layer.{name}" for name in ("q", "k", "v", "ogate_preact")],
    "mlstm_layer.ifgate_preact": ["mlstm_layer.igate_preact", "mlstm_layer.fgate_preact"],
    "ffn.proj_up_gate_z": ["ffn.proj_up_gate", "ffn.proj_up"],
}
"""The maps of a block whose rows each fused matrix contains, in order."""


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
    >>> from numpy_xlstm import xLSTMLargeConfig
    >>> config = xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9)
    >>> fused = with_weight_mode(xLSTMLarge(config), "fused")
    >>> fused.params["backbone.blocks.0.mlstm_layer.qkv_opreact.weight"].shape
    (48, 16)
    """
    check_kind("model", model, xLSTMLarge)
    check_choice("weight_mode", weight_mode, ("single", "fused"))
    if model.config.weight_mode == weight_mode:
        return model
    config = replace(model.config, weight_mode=weight_mode)  # type: ignore[arg-type]
    other, params = xLSTMLarge(config, rng=MetaInitialisation()), dict(model.params)
    for number, (fused, parts) in product(range(config.num_blocks), FUSED.items()):
        for kind in ("weight", "bias"):
            whole, *rows = (f"backbone.blocks.{number}.{name}.{kind}" for name in (fused, *parts))
            if whole in other.params:
                params[whole] = np.concatenate([params.pop(name) for name in rows])
            elif whole in params:
                stops = np.cumsum([len(other.params[name]) for name in rows])[:-1]
                params |= dict(zip(rows, np.split(params.pop(whole), stops), strict=True))
    other = other.over(params)
    other.special_tokens = model.special_tokens
    return other
