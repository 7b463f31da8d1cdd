"""Draw the four ideas before any code as SVG: ``python -m docs.figures.ideas``.

The fourth, a matrix memory, is the figure of ``memory.py``.
"""

from pathlib import Path

import numpy as np

from docs.figures.drawing import Figure
from numpy_xlstm.numerics import Array

LEFT, STEP = 168, 38
"""The place of the first step, and the distance of two steps."""


def bars(f: Figure, base: float, values: Array, height: float, kind: str) -> None:
    """Draw a bar for each step, up or down from a line, and its value."""
    f.line((LEFT - 18, base), (LEFT + STEP * len(values) - 18, base), arrow=False)
    for step, value in enumerate(values):
        x, size = LEFT + STEP * step, round(abs(value) * height)
        if size:
            f.over.append(
                f'<rect class="box {kind}" x="{x - 13}" y="{base - size if value > 0 else base}" '
                f'width="26" height="{size}"/>'
            )
        place = base - size - 5 if value >= 0 else base + size + 15
        f.text(x, place, f"{value:g}".replace("-", "−"), "text" if size else "faint", size="12")


def steps(f: Figure, y: float, count: int) -> None:
    """Number the steps."""
    f.text(12, y, "step", "faint", anchor="start", size="12")
    for step in range(count):
        f.text(LEFT + STEP * step, y, f"{step + 1}", "faint", size="12")


def row(f: Figure, y: float, name: str) -> None:
    """Write the name of a row."""
    f.text(12, y, name, anchor="start")


def draw_memory() -> str:
    """Return a value that is seen once, with and without a memory."""
    f = Figure(500, 280, "A value that is seen once, with and without a memory", 1.2)
    x = np.array([0, 0, 1, 0, 0, 0, 0, 0, 0])
    rows = (("input x", x), ("no memory: x", x), ("memory: c₋ + x", np.cumsum(x)))
    for number, (name, values) in enumerate(rows):
        base = 80 + 75 * number
        row(f, base - 8, name)
        bars(f, base, values, 35, "memory" if number == 2 else "plain")
    steps(f, 262, len(x))
    return f.svg()


def gated(z: Array, i: Array, f: Array) -> Array:
    """Return the memory c = f c₋ + i z after each step."""
    c, memory = 0.0, []
    for step in range(len(z)):
        c = f[step] * c + i[step] * z[step]
        memory.append(c)
    return np.array(memory)


Z = np.array([0.6, -0.4, 0.9, 0.3, -0.7, 0.5, -0.5, 0.8, 0.2])
INPUT = np.array([0, 0, 1, 0, 0, 0, 1, 0, 0])
FORGET = np.array([1, 1, 1, 1, 1, 1, 0, 1, 1])
OUTPUT = np.array([0, 0, 0, 0, 1, 0, 0, 0, 1])


def gate(f: Figure, y: float, name: str, values: Array) -> None:
    """Draw a gate at each step: 1 or 0."""
    row(f, y + 5, name)
    for step, value in enumerate(values):
        x = LEFT + STEP * step
        f.over.append(
            f'<rect class="box {"norm" if value else "plain"}" x="{x - 13}" y="{y - 11}" '
            f'width="26" height="22" rx="4"/>'
        )
        f.text(x, y + 5, f"{value}", "text" if value else "faint", size="13")


def draw_gates() -> str:
    """Return a memory that is written, kept, read and overwritten by three gates."""
    f = Figure(500, 440, "A memory with an input gate, a forget gate and an output gate", 1.2)
    memory = gated(Z, INPUT, FORGET)
    row(f, 66, "value z")
    bars(f, 60, Z, 35, "plain")
    gate(f, 130, "input gate i", INPUT)
    gate(f, 165, "forget gate f", FORGET)
    row(f, 246, "c = f c₋ + i z")
    bars(f, 240, memory, 35, "memory")
    gate(f, 300, "output gate o", OUTPUT)
    row(f, 378, "output o c")
    bars(f, 372, OUTPUT * memory + 0.0, 35, "act")
    steps(f, 425, len(Z))
    return f.svg()


SCORES = np.array([-4.0, 0.0, 4.0, 8.0])


def shares(weights: Array) -> Array:
    """Return the share of each value in the average after each step, (steps, values)."""
    written = np.tril(np.tile(weights, (len(weights), 1)))
    return np.asarray(written / written.sum(axis=1, keepdims=True))


def draw_exponential() -> str:
    """Return the shares of four values in a memory, with sigmoid and exponential gates."""
    f = Figure(540, 270, "The shares of four values: sigmoid and exponential input gates", 1.2)
    kinds = ("plain", "weight", "memory", "norm")
    panels = (
        (105, "sigmoid gate", 1 / (1 + np.exp(-SCORES))),
        (345, "exponential gate", np.exp(SCORES)),
    )
    for left, title, weights in panels:
        f.text(left + 78, 28, title)
        for step, row_ in enumerate(shares(weights)):
            x, edges = left + 52 * step, np.rint(225 - 170 * np.append(0, np.cumsum(row_)))
            for number, kind in enumerate(kinds):
                low, high = edges[number : number + 2]
                if low > high:
                    f.over.append(
                        f'<rect class="box {kind}" x="{x - 22}" y="{high:g}" width="44" '
                        f'height="{low - high:g}"/>'
                    )
                if low - high > 16:
                    f.text(x, (low + high) / 2 + 5, f"{row_[number]:.0%}", size="12")
            f.text(x, 247, f"{step + 1}", "faint", size="12")
    f.text(12, 60, "newest", "faint", anchor="start", size="12")
    f.text(12, 225, "oldest", "faint", anchor="start", size="12")
    f.text(12, 247, "step", "faint", anchor="start", size="12")
    return f.svg()


FIGURES = {
    "idea-memory.svg": draw_memory,
    "idea-gates.svg": draw_gates,
    "idea-exponential.svg": draw_exponential,
}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        Path(__file__).with_name(name).write_text(draw(), encoding="utf-8")
