"""Draw a matrix memory that is written and read: ``python -m docs.figures.memory``.

In four steps a value is written under a key, and in four steps it is read with a query. The SVG
moves, except where the reader prefers less motion.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from docs.figures.colours import DARK, LIGHT
from numpy_xlstm import mlstm_recurrent
from numpy_xlstm.numerics import Array

WIDTH, SIZE, LEFT, TOP, SECONDS = 560, 34, 178, 78, 12
K = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2.0
V = np.array([[1, 0, -1, 1, 0, -1], [0, 1, 1, 0, -1, 0], [-1, 1, 0, 0, 1, 1], [1, 1, 1, -1, 0, 1]])
COLOURS = {"above": ("#0969da", "#58a6ff"), "below": ("#bc4c00", "#f0883e")}
STILL = 4
"""The step that is shown where nothing may move."""


def steps() -> dict[str, Array]:
    """Return k, v, C, q and h̃ of each of the eight steps; a pair that is not written is 0."""
    none = np.zeros_like
    k, v, q = (np.concatenate(pair) for pair in ((K, none(K)), (V, none(V)), (none(K), K)))
    gates = np.zeros((1, 1, 8))
    query, key, value = (a[None, None].astype(float) for a in (q, 2 * k, v))  # the layer halves k
    h, _, _ = mlstm_recurrent(query, key, value, gates, gates, forget_gate="exp", eps=0)
    return {
        "k": k,
        "v": v,
        "C": np.cumsum(k[:, :, None] * v[:, None], axis=0),
        "q": q,
        "h": h[0, 0],
    }


def places(found: dict[str, Array]) -> Iterator[tuple[float, float, Array]]:
    """Yield the place and the eight values of each number: v above C, k and q at its sides."""
    for a in range(4):
        y = TOP + SIZE * (a + 1.5)
        yield LEFT - 1.5 * SIZE, y, found["k"][:, a]
        yield LEFT + 6.5 * SIZE, y, found["q"][:, a]
        yield from ((LEFT + SIZE * b, y, found["C"][:, a, b]) for b in range(6))
    for b in range(6):
        yield LEFT + SIZE * b, TOP, found["v"][:, b]
        yield LEFT + SIZE * b, TOP + 6 * SIZE, found["h"][:, b]


def paint(value: float) -> str:
    """Return the style rule of a number."""
    return f"fill:var(--{sign(value)});fill-opacity:{abs(value) / 2:.2g}"


def sign(value: float) -> str:
    """Return the name of the colour of a number."""
    return "below" if value < 0 else "above"


def numbers() -> tuple[str, str]:
    """Return a box for each number, and the style rules that change its colour."""
    boxes, rules = [], []
    for number, (x, y, values) in enumerate(places(steps())):
        boxes.append(
            f'<rect id="n{number}" x="{x:g}" y="{y:g}" width="{SIZE - 3}" height="{SIZE - 3}" '
            f'rx="4" stroke="{LIGHT["faint"]}" fill="{COLOURS[sign(values[STILL])][0]}" '
            f'fill-opacity="{abs(values[STILL]) / 2:.2g}"/>'
        )
        changes = [t for t in range(8) if t == 0 or paint(values[t]) != paint(values[t - 1])]
        frames = "".join(f"{12.5 * t:g}%{{{paint(values[t])}}}" for t in changes)
        rules.append(f"@keyframes n{number}{{{frames}}}#n{number}{{animation-name:n{number}}}")
    return "\n".join(boxes), "".join(rules)


def colours(theme: dict[str, str], number: int) -> str:
    """Return the colours of the light theme, number 0, or of the dark theme."""
    pairs = {name: pair[number] for name, pair in COLOURS.items()}
    shown = {name: theme[name] for name in ("paper", "ink", "faint")} | pairs
    return ";".join(f"--{name}:{colour}" for name, colour in shown.items())


def labels() -> str:
    """Return the names of the vectors, and the two captions, of which one is visible."""
    names = [
        (LEFT - 1.5 * SIZE + 15, TOP + 1.3 * SIZE, "k"),
        (LEFT + 6.5 * SIZE + 15, TOP + 1.3 * SIZE, "q"),
        (LEFT - 16, TOP + 21, "v"),
        (LEFT - 16, TOP + 6 * SIZE + 21, "h̃"),
    ]
    symbols = "".join(
        f'<text x="{x:g}" y="{y:g}"><tspan font-style="italic">{t}</tspan></text>'
        for x, y, t in names
    )
    captions = "".join(
        f'<text class="{kind}" x="{LEFT + 3 * SIZE:g}" y="40" font-size="19">{text}</text>'
        for kind, text in (
            ("write", "Write: the memory C gets k vᵀ"),
            ("read", "Read: h̃ is Cᵀq, the value written under the key q"),
        )
    )
    return f"{symbols}\n{captions}"


def figure() -> str:
    """Return the figure as a file."""
    (boxes, rules), light, dark = numbers(), colours(LIGHT, 0), colours(DARK, 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 340" width="{WIDTH}" '
        'height="340" role="img" font-family="sans-serif" font-size="17" text-anchor="middle" '
        f'fill="{LIGHT["ink"]}">\n'
        "<title>A matrix memory: four values are written under four keys, and read again</title>\n"
        f"<style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        ".paper{fill:var(--paper)}text{fill:var(--ink)}rect[id]{stroke:var(--faint)}"
        f'[fill="{COLOURS["above"][0]}"]{{fill:var(--above)}}'
        f'[fill="{COLOURS["below"][0]}"]{{fill:var(--below)}}'
        f"rect[id],.write,.read{{animation-duration:{SECONDS}s;animation-timing-function:step-end;"
        "animation-iteration-count:infinite}"
        ".write{opacity:0;animation-name:write}.read{animation-name:read}"
        "@keyframes write{0%{opacity:1}50%{opacity:0}}@keyframes read{0%{opacity:0}50%{opacity:1}}"
        f"{rules}"
        "@media(prefers-reduced-motion:reduce){rect[id],.write,.read{animation:none}}</style>\n"
        f'<rect class="paper" fill="{LIGHT["paper"]}" width="{WIDTH}" height="340" rx="8"/>\n'
        f"{boxes}\n{labels()}\n</svg>\n"
    )


FIGURES = {"memory-written.svg": figure}

if __name__ == "__main__":
    Path(__file__).with_name("memory-written.svg").write_text(figure(), "utf-8")
