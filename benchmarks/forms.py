"""Forward + backward of mLSTM's forms beside the peers' kernels: ``python -m benchmarks.forms``.

``--scaling`` shows the cost per step against T and against the chunk size instead, and
``--picture FILE`` draws it (needs the extra ``plot``). The peers are optional. The second column of
a table is the ratio to our time: above 1, we are faster.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.timing import Setup, Work, child, machine, side_by_side
from numpy_xlstm import (
    mlstm_chunkwise,
    mlstm_chunkwise_backward,
    mlstm_parallel,
    mlstm_parallel_backward,
    mlstm_recurrent,
    mlstm_recurrent_backward,
)
from numpy_xlstm.numerics import Array

FORMS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "chunkwise": (mlstm_chunkwise, mlstm_chunkwise_backward),
    "parallel": (mlstm_parallel, mlstm_parallel_backward),
    "recurrent": (mlstm_recurrent, mlstm_recurrent_backward),
}
LONGEST = {"chunkwise": 2**16, "parallel": 2**12, "recurrent": 2**13}
CHUNK_SIZES = (16, 32, 64, 128, 256, 512)


def arrays(B: int, NH: int, T: int, d: int) -> tuple[list[Array], Array]:
    rng = np.random.default_rng(0)
    q, k, v, dh = rng.standard_normal((4, B, NH, T, d), dtype=np.float32)
    i, f = rng.standard_normal((2, B, NH, T), dtype=np.float32)
    return [q, k, v, i, f + 3], dh


def ours(form: str, *sizes: int, **options: Any) -> Work:
    inputs, dh = arrays(*sizes)
    forward, backward = FORMS[form]

    def work() -> None:
        _, _, cache = forward(*inputs, **options)
        backward(dh, cache)

    return work


def products(B: int, NH: int, T: int, d: int, L: int = 64) -> Work:
    """The matrix products of a chunkwise forward and backward, and nothing else."""
    chunks = (B, NH, T // L)
    x, S = np.ones((*chunks, L, d), np.float32), np.ones((*chunks, L, L + d), np.float32)
    C, VC = np.ones((*chunks, d, d), np.float32), np.ones((*chunks, L + d, d), np.float32)
    xT, inner = x.swapaxes(-1, -2), np.ascontiguousarray(S[..., :L])

    def work() -> None:
        for _ in range(2):  # scores, in both passes
            np.matmul(x, xT)
        np.matmul(xT, x)  # states
        np.matmul(S, VC)  # reading
        np.matmul(x, VC.swapaxes(-1, -2))
        np.matmul(S.swapaxes(-1, -2), x)
        for _ in range(2):  # keys and values from the states, and from the scores
            np.matmul(x, C)
            np.matmul(inner, x)

    return work


def kernel(name: str, chunk_size: int | None, *sizes: int) -> Work:
    """A native PyTorch kernel of ``mlstm_kernels``."""
    import torch
    from mlstm_kernels.torch.chunkwise import native as chunkwise
    from mlstm_kernels.torch.parallel import native as parallel

    function = getattr(chunkwise if chunk_size else parallel, name)
    options = {"chunk_size": chunk_size} if chunk_size else {}
    inputs, dh = arrays(*sizes)
    tensors, cotangent = [torch.tensor(a, requires_grad=True) for a in inputs], torch.tensor(dh)

    def work() -> None:
        h = function(*tensors, **options)
        (h[0] if isinstance(h, tuple) else h).backward(cotangent)

    return work


def xlstm_form(form: str, *sizes: int) -> Work:
    """PyTorch's ``xlstm``: its parallel or chunkwise backend, by autograd."""
    import torch
    from xlstm.blocks.mlstm import backends

    inputs, dh = arrays(*sizes)
    tensors, cotangent = [torch.tensor(a, requires_grad=True) for a in inputs], torch.tensor(dh)
    q, k, v, i, f = tensors
    backend = getattr(backends, form)

    def work() -> None:
        h = backend(q, k, v, i[..., None], f[..., None])
        (h[0] if isinstance(h, tuple) else h).backward(cotangent)

    return work


def contenders(*sizes: int, forms: tuple[str, ...]) -> dict[str, Setup]:
    found: dict[str, Setup] = {f"numpy_xlstm {form}": partial(ours, form, *sizes) for form in forms}
    found["matrix products alone"] = partial(products, *sizes)
    if importlib.util.find_spec("mlstm_kernels") and importlib.util.find_spec("xlstm"):
        for kind in ("autograd", "custbw"):
            for L in (64, 128):
                name = f"mlstm_chunkwise__native_{kind}"
                found[f"mlstm_kernels {kind}, chunk {L}"] = partial(kernel, name, L, *sizes)
        found["xlstm chunkwise"] = partial(xlstm_form, "chunkwise_simple", *sizes)
        if "parallel" in forms:
            found["xlstm parallel"] = partial(xlstm_form, "parallel_stabilized_simple", *sizes)
            name = "mlstm_parallel__native_autograd"
            found["mlstm_kernels parallel autograd"] = partial(kernel, name, None, *sizes)
    return found


TABLES: dict[str, dict[str, Setup]] = {
    "B 1, NH 4, T 4096, d 128": contenders(1, 4, 4096, 128, forms=("chunkwise",)),
    "B 4, NH 4, T 256, d 64": contenders(4, 4, 256, 64, forms=tuple(FORMS)),
}


def per_step(work: Work, T: int, runs: int = 3) -> float:
    """Microseconds per step: the median of some runs after one that does not count."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return median(times) / T * 1e6


def scaling(NH: int = 4, d: int = 64) -> tuple[dict[str, dict[int, float]], dict[int, float]]:
    """Cost per step of each form against T, and of the chunkwise one against the chunk size."""
    lengths = [2**n for n in range(10, 17)]
    by_length: dict[str, dict[int, float]] = {form: {} for form in FORMS}
    print(f"microseconds per step, forward + backward, float32, B 1, NH {NH}, d {d}\n")
    print("       T" + "".join(f"{form:>12s}" for form in FORMS))
    for T in lengths:
        for form in FORMS:
            if LONGEST[form] >= T:
                by_length[form][T] = per_step(ours(form, 1, NH, T, d), T)
        cells = (by_length[form].get(T) for form in FORMS)
        print(f"{T:8d}" + "".join("           –" if c is None else f"{c:12.1f}" for c in cells))
    by_chunk = {
        L: per_step(ours("chunkwise", 1, NH, 2**13, d, chunk_size=L), 2**13) for L in CHUNK_SIZES
    }
    print("\n   chunk   chunkwise, T 8192")
    for L, cost in by_chunk.items():
        print(f"{L:8d}{cost:12.1f}")
    return by_length, by_chunk


def draw(by_length: dict[str, dict[int, float]], by_chunk: dict[int, float], path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from docs.figures.plots import FIRST, SECOND, STYLE, THIRD, save

    with rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for (form, costs), colour in zip(by_length.items(), (FIRST, SECOND, THIRD), strict=True):
            left.plot(list(costs), list(costs.values()), "o-", color=colour, label=form)
        left.set(xlabel="T", ylabel="µs per step, forward + backward", xscale="log", yscale="log")
        left.legend()
        right.plot(list(by_chunk), list(by_chunk.values()), "o-", color=FIRST)
        right.set(xlabel="chunk size (T = 8192)", xscale="log")
        for axes, ticks in ((left, by_length["chunkwise"]), (right, by_chunk)):
            axes.set_xticks(list(ticks), [str(n) if n < 1024 else f"{n // 1024}k" for n in ticks])
            axes.minorticks_off()
        save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8, help="runs per process (default: 8)")
    parser.add_argument("--turns", type=int, default=3, help="processes each (default: 3)")
    parser.add_argument("--only", default="", help="tables whose title contains this")
    parser.add_argument("--scaling", action="store_true", help="cost against T and chunk size")
    parser.add_argument("--picture", metavar="FILE", help="draw the scaling, as SVG")
    parser.add_argument("--child", nargs=2, metavar=("TABLE", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        table, name = arguments.child
        child(TABLES, table, name, arguments.runs)
        return
    if arguments.scaling or arguments.picture:
        costs = scaling()
        if arguments.picture:
            draw(*costs, Path(arguments.picture).resolve())
        return
    print(machine())
    print("forward + backward, float32: median, ratio to ours, range")
    for table, found in TABLES.items():
        if arguments.only in table:
            names = list(found)
            side_by_side("benchmarks.forms", table, names, arguments.turns, arguments.runs)


if __name__ == "__main__":
    main()
