"""Draw the figures of the derivations as SVG: ``python -m docs.figures.derived``.

They show which branch of a maximum gets the gradient, and the three forms of mLSTM.
"""

from itertools import pairwise
from pathlib import Path

from docs.figures.drawing import Figure, Point


def winner(f: Figure, left: float, past_wins: bool) -> None:
    """Draw the way back through the stabiliser in one panel."""
    x = {"log $i$": left + 85, "$A$": left + 245}
    wins, loses = ("$A$", "log $i$") if past_wins else ("log $i$", "$A$")
    gates = {"log $i$": ("$i$′", "δ$i$′"), "$A$": ("$f$′", "δ$f$′")}
    f.text(left + 165, 28, f"{wins} is the larger: $m$ = {wins}")
    for name, (gate, gradient) in gates.items():
        formula = f"{gate} = 1" if name == wins else f"{gate} = exp({name} − $m$)"
        f.box(x[name], 105, 150, [formula], "plain" if name == wins else "act")
        f.line((x[name], 56), (x[name], 90), dashed=name == wins)
        f.text(x[name] + 8, 74, gradient, anchor="start")
        f.box(x[name], 305, 90, [name], "memory")
    f.box(x[wins], 205, 90, ["$m$"], "norm")
    f.line((x[wins], 120), (x[wins], 190), dashed=True)
    f.text(x[wins] + 8, 150, "0", "faint", anchor="start")
    gate = gates[loses][0]
    term = f"{gate}δ{gate}"
    inner = 1 if x[wins] > x[loses] else -1
    f.line((x[loses], 120), (x[loses], 290))
    f.text(x[loses] - 8 * inner, 250, term, anchor="end" if inner > 0 else "start")
    f.line((x[loses], 205), (x[wins] - 45 * inner, 205))
    f.dot((x[loses], 205))
    f.text((x[loses] + x[wins]) / 2, 195, f"−{term}")
    f.line((x[wins] + 82 * inner, 205), (x[wins] + 45 * inner, 205))
    f.text(x[wins] + 66 * inner, 195, "δ$m$⁺")
    f.line((x[wins], 220), (x[wins], 290))
    f.text(x[wins] + 8 * inner, 255, "the sum", anchor="start" if inner > 0 else "end")


def draw_maximum() -> str:
    """Return the way of the gradient through either branch of max(A, log i)."""
    f = Figure(680, 350, "The gradient through each branch of m = max(A, log i)")
    winner(f, 0, past_wins=True)
    winner(f, 350, past_wins=False)
    f.line((340, 40), (340, 330), arrow=False, dashed=True)
    return f.svg()


def draw_floor() -> str:
    """Return the denominator against q·n, and which argument of its maximum gets the gradient."""
    f = Figure(680, 400, "The denominator max(|q·n|, exp(−m)) against q·n")
    centre, ground, unit, floor = 340, 235, 62, 1.4
    low, high = ground - unit * floor, ground - unit * 3.1
    edge, reach = unit * floor, unit * 3.1
    f.line((60, ground), (630, ground))
    f.text(640, ground + 5, "$q$·$n$", anchor="start")
    for side in (-1, 1):
        f.line((centre, ground), (centre + side * edge, low), arrow=False, dashed=True)
        f.line((centre + side * edge, low), (centre + side * reach, high), arrow=False)
        f.line((centre + side * edge, 40), (centre + side * edge, 290), arrow=False, dashed=True)
        f.line((centre + side * edge, low), (centre + side * 270, low), arrow=False, dashed=True)
    f.line((centre - edge, low), (centre + edge, low), arrow=False)
    f.text(centre, low - 10, "floor $e$⁻ᵐ")
    f.text(centre + reach + 8, high + 4, "|$q$·$n$|", anchor="start")
    f.text(centre - reach - 8, high + 4, "|$q$·$n$|", anchor="end")
    columns = (
        (110, "|$q$·$n$| is the larger", "δ($q$·$n$) = +$S$/den"),
        (340, "the floor is the larger", "δ$m$ gets $S$$e$⁻ᵐ/den"),
        (570, "|$q$·$n$| is the larger", "δ($q$·$n$) = −$S$/den"),
    )
    for x, who, gradient in columns:
        f.box(x, 310, 190, [who], "plain")
        f.box(x, 360, 190, [gradient], "weight" if "q" in gradient else "norm")
        f.line((x, 325), (x, 345))
    return f.svg()


SIDE, T, CHUNK = 17, 9, 3
"""Pixels of an entry of the triangle, its rows, and the steps of a chunk."""


def entry(f: Figure, left: float, row: int, column: int, kind: str, columns: int = 1) -> None:
    """Draw one or several entries of a triangle of weights."""
    x, y = left + SIDE * column, 70 + SIDE * row
    f.over.append(
        f'<rect class="box {kind}" x="{x:g}" y="{y:g}" width="{SIDE * columns}" height="{SIDE}"/>'
    )


def bend(f: Figure, left: float, row: int) -> None:
    """Draw an arrow from the end of the row above to the end of a row: a state is passed on."""
    end, y = left + SIDE * (row + 1), 70 + SIDE * (row + 0.5)
    f.line((end - SIDE, y - SIDE), (end + 16, y - SIDE), (end + 16, y), (end + 2, y))


def draw_forms() -> str:
    """Return the three forms as three ways through the triangle of weights."""
    f = Figure(680, 330, "Recurrent, parallel and chunkwise: three ways through one triangle")
    titles = (
        ("recurrent", "one row after the other:", "a state after each step"),
        ("parallel", "all entries at once:", "no state"),
        ("chunkwise", "triangles at once, one state", "after each chunk"),
    )
    for left, (title, *lines) in zip((40, 265, 490), titles, strict=True):
        middle = left + SIDE * T / 2
        f.text(middle, 30, title)
        f.text(middle, 50, "written at step j →", "faint", size="11")
        for number, line in enumerate(lines):
            f.text(middle, 260 + 18 * number, line, "faint", size="12")
    for row in range(T):
        entry(f, 40, row, 0, "memory", row + 1)
        if row:
            bend(f, 40, row)
        for column in range(row + 1):
            entry(f, 265, row, column, "weight")
        first = row // CHUNK * CHUNK
        if first:
            entry(f, 490, row, 0, "memory", first)
        for column in range(first, row + 1):
            entry(f, 490, row, column, "weight")
    for border in range(CHUNK, T, CHUNK):
        bend(f, 490, border)
    f.box(200, 306, 24, [""], "memory")
    f.text(218, 311, "read from a state", "faint", anchor="start", size="12")
    f.box(382, 306, 24, [""], "weight")
    f.text(400, 311, "matrix products", "faint", anchor="start", size="12")
    return f.svg()


def crossing(f: Figure, y: float, label: str, *points: Point) -> None:
    """Draw what goes over a border of a chunk."""
    f.line(*points)
    f.text((points[0][0] + points[-1][0]) / 2, y, label, size="13")


def draw_borders() -> str:
    """Return three chunks, and what goes over their borders in the forward and the backward."""
    f = Figure(680, 330, "Three chunks, and what crosses their borders")
    places = (120, 340, 560)
    for number, x in enumerate(places):
        f.box(x, 105, 132, ["scores, weights", "of this chunk only"], "weight")
        f.box(x, 240, 132, ["the same, again", "and their gradients"], "weight")
        f.text(x, 32, f"h of chunk {number + 1}")
        f.line((x, 82), (x, 40))
        f.text(x, 176, "q, k, v, ĩ, f̃")
        f.line((x, 160), (x, 128))
        f.line((x, 184), (x, 217))
        f.text(x, 315, "δq, δk, δv, δĩ, δf̃")
        f.line((x, 263), (x, 300))
    for left, right in pairwise(places):
        crossing(f, 93, "C, n, m", (left + 66, 105), (right - 66, 105))
        crossing(f, 258, "δC, δn, δm", (right - 66, 240), (left + 66, 240))
        middle = (left + right) / 2
        f.line((middle, 50), (middle, 80), arrow=False, dashed=True)
        f.line((middle, 118), (middle, 228), arrow=False, dashed=True)
        f.line((middle, 268), (middle, 300), arrow=False, dashed=True)
    f.text(14, 70, "forward", "faint", anchor="start", size="12")
    f.text(14, 290, "backward", "faint", anchor="start", size="12")
    return f.svg()


FIGURES = {
    "maximum-branches.svg": draw_maximum,
    "floor.svg": draw_floor,
    "three-forms.svg": draw_forms,
    "chunk-borders.svg": draw_borders,
}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        Path(__file__).with_name(name).write_text(draw(), encoding="utf-8")
