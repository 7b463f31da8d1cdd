"""Rows of the table, in float32, with forward and backward unless the title says otherwise."""

from functools import partial
from importlib import import_module
from itertools import product
from typing import Any

from benchmarks import ours
from benchmarks.ours import Model
from benchmarks.timing import Row, Setup, Work

GATES = {"LSTM": 4, "sLSTM": 4, "GRU": 3, "RNN": 1}
ALONE = ("LSTM", "GRU", "sLSTM"), (1, 32, 128), (64, 256, 512)
"""Cells, B and H of the rows with a forward alone."""

PLACES: dict[str, list[int] | str] = {"mixed": [1], "mLSTM": [], "sLSTM": "all"}
"""Indices of the sLSTM blocks among the seven blocks."""


def peer(module: str, name: str, *sizes: Any) -> Work:
    """Import the module of a peer and set it up."""
    work: Work = getattr(import_module(f"benchmarks.{module}"), name)(*sizes)
    return work


def rows(most: int = 2**16) -> list[Row]:
    """Return all rows. For tests, ``most`` limits all sizes, and titles stay the same."""
    cells = [("LSTM", 1, 64), ("sLSTM", 1, 64)]
    cells += [(kind, 32, H) for kind in ("LSTM", "sLSTM") for H in (256, 512)]
    found = [cell(*each, most) for each in (*cells, ("GRU", 32, 256), ("RNN", 32, 256))]
    found += [forward(kind, B, H, most) for kind, B, H in product(*ALONE)]
    found += [mlstm(*sizes, most) for sizes in ((1, 4, 4096, 128), (4, 4, 256, 64))]
    found += [token(n * 1024, most) for n in (1, 4, 16, 64)]
    T, blocks = min(256, most), [(kind, f"7 blocks, d 128, {kind}") for kind in PLACES]
    models = {
        title: Model(PLACES[kind], min(128, most), min(7, most // 32), T) for kind, title in blocks
    }
    large = Model(None, min(512, most), min(6, most // 32), T)
    found += [training(title, spec) for title, spec in models.items()]
    found += [training(title, spec, ranks=2) for title, spec in models.items()]
    found += [training("xLSTM Large, 6 blocks, d 512", large)]
    found += [generation(title, spec, min(256, most // 8)) for title, spec in models.items()]
    found += [prefill(title, spec._replace(B=1)) for title, spec in models.items()]
    found += [adamw(min(512, most))]
    return found + [step(kind, H, most) for kind in ("sLSTM", "mLSTM") for H in (64, 256)]


def cell(kind: str, B: int, H: int, most: int) -> Row:
    heads = (4,) if kind == "sLSTM" else ()
    sizes = min(B, most), min(128, most), min(H, most), *heads
    found: dict[str, Setup] = {
        "xlstm, vanilla sLSTM": partial(peer, "torch_peers", "xlstm_slstm", *sizes),
        "JAX, lax.scan": partial(peer, "jax_scan", "slstm", *sizes),
    }
    if kind != "sLSTM":
        found = {f"torch.nn.{kind}": partial(peer, "torch_peers", "torch_layer", kind, *sizes)}
    if kind == "LSTM":
        found["JAX, lax.scan"] = partial(peer, "jax_scan", "lstm", *sizes)
    floor = partial(ours.layer_products, GATES[kind], *sizes)
    return Row(f"{kind}, B {B}, T 128, H {H}", partial(ours.layer, kind, *sizes), found, floor)


def forward(kind: str, B: int, H: int, most: int) -> Row:
    """Return a row for a layer that is called without a cache."""
    heads = (4,) if kind == "sLSTM" else ()
    sizes = min(B, most), min(128, most), min(H, most), *heads
    found: dict[str, Setup] = {}
    if kind != "sLSTM":
        for name, module in ((f"torch.nn.{kind}", "torch_peers"), ("ONNX Runtime", "onnx_runtime")):
            found[name] = partial(peer, module, "layer_forward", kind, *sizes)
    if kind != "GRU":
        found["JAX, lax.scan"] = partial(peer, "jax_scan", kind.lower(), *sizes, False)
    floor = partial(ours.layer_products, GATES[kind], *sizes, backward=False)
    work = partial(ours.layer_forward, kind, *sizes)
    return Row(f"{kind}, forward, B {B}, T 128, H {H}", work, found, floor)


def mlstm(B: int, NH: int, T: int, d: int, most: int) -> Row:
    sizes = min(B, most), NH, min(T, most), min(d, most)
    found: dict[str, Setup] = {
        "xlstm, chunkwise": partial(peer, "torch_peers", "xlstm_chunkwise", *sizes)
    }
    for kind, said in (("custbw", "own backward"), ("autograd", "autograd")):
        for L in (64, 128):
            work = partial(peer, "torch_peers", "mlstm_kernels", kind, min(L, most), *sizes)
            found[f"mlstm_kernels, {said}, chunks of {L}"] = work
    work, floor = partial(ours.chunkwise, *sizes), partial(ours.chunkwise_products, *sizes)
    return Row(f"mLSTM, B {B}, NH {NH}, T {T}, d {d}", work, found, floor)


def token(T: int, most: int) -> Row:
    """Return a row for the time per token in sequences of one length."""
    sizes = 1, 4, min(T, most), min(64, most)
    work, floor = partial(ours.chunkwise, *sizes), partial(ours.chunkwise_products, *sizes)
    return Row(f"mLSTM, one token of T {T // 1024}k, d 64", work, {}, floor, pieces=sizes[2])


def training(title: str, spec: Model, ranks: int = 1) -> Row:
    found = {"xlstm, official": partial(peer, "torch_peers", "official_training", spec)}
    work, floor = partial(ours.training, spec), partial(ours.model_products, spec, 3)
    title = f"training step, {title}" + (", two MPI ranks" if ranks > 1 else "")
    return Row(title, work, found, floor, ranks=ranks)


def generation(title: str, spec: Model, tokens: int) -> Row:
    """Return a row for the time per token."""
    found = {"xlstm, official": partial(peer, "torch_peers", "official_generation", spec, tokens)}
    found["ONNX Runtime"] = partial(peer, "onnx_runtime", "generation", spec, tokens)
    work = partial(ours.generation, spec, tokens)
    floor = partial(ours.model_products, spec._replace(B=1, T=1), 1, tokens)
    return Row(f"one token generated, {title}", work, found, floor, pieces=tokens)


def prefill(title: str, spec: Model) -> Row:
    found = {
        "xlstm, official": partial(peer, "torch_peers", "official_prefill", spec),
        "ONNX Runtime": partial(peer, "onnx_runtime", "prefill", spec),
    }
    floor = partial(ours.model_products, spec, 1)
    return Row(f"prefill of 256, forward, {title}", partial(ours.prefill, spec), found, floor)


def adamw(size: int) -> Row:
    kinds = "fused", "foreach"
    found = {
        f"torch AdamW, {kind}": partial(peer, "torch_peers", "torch_adamw", kind, 16, size)
        for kind in kinds
    }
    return Row("AdamW, 4M numbers", partial(ours.adamw, 16, size), found)


def step(kind: str, H: int, most: int) -> Row:
    """Return a row for single steps; the peer's loop over the steps is in C."""
    sizes, name = (min(H, most), min(500, most)), kind.lower()
    found = {"C loop": partial(peer, "c_loop", name, *sizes)}
    work = partial(getattr(ours, f"{name}_steps"), *sizes)
    return Row(f"{kind}, one step, forward, B 1, H {H}", work, found, pieces=sizes[1])
