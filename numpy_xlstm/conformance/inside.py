"""Tensors within a block, from its residuals, in the order in which they are computed.

``docs/trace.md`` has a table of their names. All are (B, T, ·), with the heads side by side.
"""

from typing import Any

import numpy as np

from numpy_xlstm.kernels.common import join_heads
from numpy_xlstm.numerics import Array, Arrays

INSIDE = "inside."
"""Start of their names in a case. A port need not return them."""
AXES = dict.fromkeys(("inside", "inside.c", "inside.n", "inside.m"), "row step unit")
AXES |= {
    f"inside.{n}": "row step (head={num_heads} unit)"
    for n in ("q", "k", "v", "h", "head_norm", "o", "gated")
}
"""Patterns of the tensors."""


def inside(block: Any, x: Array, cache: Any) -> Arrays:
    """Return the tensors between the input and the output of a block.

    The cache may be a list with one for each step.
    """
    if isinstance(cache, list):
        steps = [inside(block, x[:, t : t + 1], one) for t, one in enumerate(cache)]
        return {name: np.concatenate([step[name] for step in steps], axis=1) for name in steps[0]}
    layer, kept = block.layer, cache.layer
    if hasattr(kept, "qkvo"):  # xLSTM Large
        after, _ = layer.out_proj.compute(kept.out)
        maps = {} if kept.capped is None else _halves(kept.capped[0], "i_map", "f_map")
        tensors = {"norm": kept.qkvo, **maps, **_memory(kept.mlstm, x.shape[1])}
        tensors |= {"head_norm": kept.normed, "o": kept.o, "gated": kept.out, "projection": after}
    elif hasattr(kept, "scan"):  # sLSTM
        tensors = {"norm": kept.gates[2]} | ({} if kept.silu is None else {"a": kept.silu[0]})
        h, *memory = np.moveaxis(kept.scan.states[:, 1:], 2, 0)
        after, _ = layer.group_norm.compute(h)
        numbers = *np.moveaxis(kept.scan.pre, 2, 0), *memory, h, after
        names = "i_pre", "f_pre", "z_pre", "o_pre", "c", "n", "m", "h", "head_norm"
        tensors |= dict(zip(names, numbers, strict=True))
    else:  # mLSTM
        after, _ = layer.proj_down.compute(kept.down)
        read, (gate, _) = kept.gated
        inner = kept.conv[0][:, -x.shape[1] or None :]
        tensors = {"norm": kept.up, "inner": inner, "a": kept.active[0]}
        tensors |= _memory(kept.memory, x.shape[1])
        tensors |= {"read": read, "gate": gate, "gated": kept.down, "projection": after}
    if block.ffn is not None:
        up, gate, _, value, product = cache.ffn
        tensors |= {"middle": x + after, "ffn_norm": up, "ffn_gate": gate, "ffn_up": value}
        tensors |= {"ffn_product": product}
    return {f"{INSIDE}{name}": array for name, array in tensors.items()}


def _halves(array: Array, *names: str) -> Arrays:
    return dict(zip(names, np.split(array, 2, axis=-1), strict=True))


def _memory(kept: Any, T: int) -> Arrays:
    """Return the tensors of an mLSTM; k is divided by √DK."""
    k, v = kept.form.k[:, :T].reshape(kept.q.shape), kept.form.v[:, :T, :-1].reshape(kept.h.shape)
    m, qn = (array.reshape(kept.i_pre.shape) for array in (kept.normaliser.m, kept.normaliser.qn))
    arrays = {"q": kept.q, "k": k, "v": v, "i_pre": kept.i_pre, "f_pre": kept.f_pre}
    arrays |= {"m": m, "qn": qn, "h": kept.h}
    return {n: join_heads(a if a.ndim == 4 else a[..., None]) for n, a in arrays.items()}
