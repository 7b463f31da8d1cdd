"""Draw the cost of the forms of mLSTM, and its state next to a cache of keys and values.

``python -m docs.figures.cost``. Needs the extra ``plot``.
"""

import numpy as np
from matplotlib import rc_context

from docs.figures.changes import panels
from docs.figures.plots import FIRST, SECOND, STYLE, THIRD, save
from numpy_xlstm.numerics import Array

DK, DV, CHUNK = 256, 512, 64
"""The widths of a head of xLSTM 7B, and the steps of a chunk."""

LAYERS, HEADS, WIDTH = 32, 8, 4096


def flops(T: Array) -> dict[str, Array]:
    """Return additions and multiplications of the forward of a head, up to lower-order terms."""
    return {
        "recurrent": 5 * DK * DV * T,
        "parallel": (DK + DV) * T**2,
        "chunkwise": (CHUNK * (DK + DV) + 4 * DK * DV) * T,
    }


def kept(T: Array) -> dict[str, Array]:
    """Return how many numbers a model keeps between two tokens after T of them."""
    state = LAYERS * HEADS * (DK * DV + DK + 1)
    return {
        "keys and values": 2 * LAYERS * WIDTH * T,
        "a quarter of them": 2 * LAYERS * WIDTH * T / 4,
        "state of xLSTM 7B": np.full(len(T), float(state)),
    }


def draw() -> None:
    """Draw both plots."""
    figure, (left, right) = panels(2, 3.2)
    T = np.geomspace(32, 32768, 41)
    colours = (SECOND, THIRD, FIRST)
    for axes, lines in ((left, flops(T)), (right, kept(T))):
        for (label, values), colour in zip(lines.items(), colours, strict=True):
            axes.plot(T, values, color=colour, label=label)
        axes.set(xscale="log", yscale="log", xlabel="steps T")
        axes.legend(fontsize=9)
    left.set(title="FLOPs of a head")
    right.set(title="numbers kept")
    save(figure, "cost.svg")


if __name__ == "__main__":
    with rc_context(STYLE):
        draw()
