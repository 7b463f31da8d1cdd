"""Flax: cells of linen and of nnx. Kernels are transposed, and the carry of an LSTM is (c, h)."""

from functools import partial

from tests.outside.shared import Case, Tensor, one_bias, outside, rows, scanned


def cell_of(name: str, case: Case, W: Tensor, R: Tensor, *b: Tensor) -> Tensor:
    from flax import linen, nnx

    (D, H), (api, kind) = case.options.values(), name.split(".")
    bias, *bias_n = one_bias(*b)
    tree: dict[str, dict[str, Tensor]] = {}
    places = [f"{{}}{gate}" for gate in ("rzn" if kind == "GRUCell" else "ifgo")]
    if name in ("nnx.OptimizedLSTMCell", "nnx.GRUCell"):  # which join the gates, without bias_n
        places = ["dense_{}"]
    for place, *arrays in zip(places, *(rows(a, len(places)) for a in (W, R, bias)), strict=True):
        i, h = place.format("i"), place.format("h")
        tree |= {i: {"kernel": arrays[0].T}, h: {"kernel": arrays[1].T}}
        tree[i if kind == "GRUCell" else h]["bias"] = arrays[2]
    if api == "linen":
        tree["hn"] = tree.get("hn", {}) | dict(zip(["bias"], bias_n, strict=False))
        module = getattr(linen, kind)(H, param_dtype=case.dtype)
        cell = partial(module.apply, {"params": tree})
    else:
        cell = getattr(nnx, kind)(D, H, rngs=nnx.Rngs(0), param_dtype=case.dtype, dtype=case.dtype)
        nnx.update(cell, {"if_" if place == "if" else place: tree[place] for place in tree})

    def step(state: Tensor, x: Tensor) -> Tensor:
        if kind == "GRUCell":
            return cell(state, x)
        carry, y = cell(state[::-1], x)
        return carry[::-1], y

    return step


CELLS = ("LSTMCell lstm", "OptimizedLSTMCell lstm", "GRUCell gru")
FUNCTIONS = ", ".join(f"{api}.{cell}" for api in ("linen", "nnx") for cell in CELLS)
IMPLEMENTATIONS = outside("flax>=0.12,<0.13", scanned(cell_of), FUNCTIONS, "lengths")
