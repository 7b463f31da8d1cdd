"""Time x Wᵀ for few rows, as Linear takes it, beside the plain product.

    python -m benchmarks.products [--only TEXT] [--turns N] [--runs N]

One run goes through as many matrices as a model has, so that each of the larger ones comes from
memory when its turn comes.
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy_xlstm.layers.product import times_transposed

from benchmarks.timing import Setup, Work, child, machine, side_by_side
from numpy_xlstm.numerics import Array

MATRICES = {(1408, 512): 32, (512, 512): 64, (512, 128): 32}
"""Shapes of W, and how many there are."""

ROWS = (1, 2, 4, 8)


def plain(x: Array, weight: Array) -> Array:
    product: Array = x @ weight.T
    return product


def products(way: Callable[[Array, Array], Array], shape: tuple[int, int], rows: int) -> Setup:
    def setup() -> Work:
        rng = np.random.default_rng(0)
        weights = [rng.random(shape, np.float32) for _ in range(MATRICES[shape])]
        x = rng.random((rows, shape[1]), np.float32)

        def work() -> None:
            for weight in weights:
                way(x, weight)

        return work

    return setup


TABLES = {
    f"{count} products of W {shape} with {rows} rows": {
        "ours": products(times_transposed, shape, rows),
        "plain product": products(plain, shape, rows),
    }
    for shape, count in MATRICES.items()
    for rows in ROWS
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="runs per process (default: 20)")
    parser.add_argument("--turns", type=int, default=3, help="processes each (default: 3)")
    parser.add_argument("--only", default="", help="tables whose title contains this")
    parser.add_argument("--child", nargs=2, metavar=("TABLE", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        title, name = arguments.child
        child(TABLES, title, name, arguments.runs)
        return
    print(machine())
    print("float32: median, ratio to ours, range")
    for title, contenders in TABLES.items():
        if arguments.only in title:
            names = list(contenders)
            side_by_side("benchmarks.products", title, names, arguments.turns, arguments.runs)


if __name__ == "__main__":
    main()
