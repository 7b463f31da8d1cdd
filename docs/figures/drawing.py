"""Drawing: a sheet with boxes, arrows and labels, and the colours of all figures, as SVG.

Labels are plain text in which ``$…$`` is italic and ``_{…}`` a subscript. A figure has a light and
a dark theme, and its own paper, so that it reads on any page.
"""

import re
from xml.sax.saxutils import escape

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "faint": "#656d76",
    "plain": "#f6f8fa",
    "weight": "#ddeafb",
    "norm": "#e6f4e4",
    "memory": "#fdebcf",
    "act": "#efe7fa",
}
DARK = {
    "paper": "#161b22",
    "ink": "#e6edf3",
    "faint": "#9aa4af",
    "plain": "#21262d",
    "weight": "#1d3557",
    "norm": "#1f3d2b",
    "memory": "#52391a",
    "act": "#372a52",
}

Point = tuple[float, float]


def rules(colours: dict[str, str]) -> str:
    """Style rules of one theme."""
    c = colours
    kinds = ("plain", "weight", "norm", "memory", "act")
    return "".join(
        [
            f".paper{{fill:{c['paper']}}}",
            f".text{{fill:{c['ink']}}}.faint{{fill:{c['faint']}}}",
            f".line{{stroke:{c['ink']}}}.head{{fill:{c['ink']}}}",
            f".box{{stroke:{c['ink']}}}",
            *(f".{kind}{{fill:{c[kind]}}}" for kind in kinds),
        ]
    )


class Figure:
    """Boxes, arrows and labels on a sheet; ``letters`` scales the size of all text."""

    def __init__(self, width: int, height: int, title: str, letters: float = 1) -> None:
        self.size, self.title, self.letters = (width, height), title, letters
        self.under: list[str] = []
        self.over: list[str] = []

    def text(self, x: float, y: float, label: str, kind: str = "text", **options: str) -> None:
        """Write a label; ``anchor`` is start, middle (the default) or end, ``size`` in pixels."""
        anchor, size = options.get("anchor", "middle"), float(options.get("size", "14"))
        spans, lowered = [], False
        for part in re.findall(r"\$[^$]*\$|[^$]+", label):
            style = ' font-style="italic"' if part.startswith("$") else ""
            for piece in re.findall(r"_\{[^}]*\}|(?:[^_]|_(?!\{))+", part.strip("$")):
                low = piece.startswith("_{")
                shift = "" if low == lowered else f' dy="{4 if low else -4}"'
                smaller = f' font-size="{10 * self.letters:g}"' if low else ""
                inner = escape(piece[2:-1] if low else piece)
                spans.append(f"<tspan{style}{shift}{smaller}>{inner}</tspan>")
                lowered = low
        self.over.append(
            f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}" '
            f'font-size="{size * self.letters:g}">{"".join(spans)}</text>'
        )

    def box(
        self, x: float, y: float, width: float, lines: list[str], kind: str, number: str = ""
    ) -> None:
        """Draw a box around (x, y), 30 high, or 44 with a second line; a number at its right."""
        height = 30 if len(lines) == 1 else 46
        self.over.append(
            f'<rect class="box {kind}" x="{x - width / 2:g}" y="{y - height / 2:g}" '
            f'width="{width:g}" height="{height}" rx="5"/>'
        )
        self.text(x, y + (5 if len(lines) == 1 else -3), lines[0])
        for line in lines[1:]:
            self.text(x, y + 14, line, "faint", size="11")
        if number:
            self.text(
                x + width / 2 + 5, y - height / 2 + 9, number, "faint", anchor="start", size="11"
            )

    def operation(self, x: float, y: float, sign: str, number: str = "") -> None:
        """Draw a sum, "+", or an elementwise product, "∘", of what comes in."""
        self.over.append(f'<circle class="box plain" cx="{x:g}" cy="{y:g}" r="12"/>')
        self.over.append(
            f'<path class="line" d="M{x - 6:g} {y:g}H{x + 6:g}M{x:g} {y - 6:g}V{y + 6:g}"/>'
            if sign == "+"
            else f'<circle class="line" cx="{x:g}" cy="{y:g}" r="4" fill="none"/>'
        )
        if number:
            self.text(x + 15, y - 9, number, "faint", anchor="start", size="11")

    def edge(self, x: float, y: float, name: str, width: str) -> None:
        """Write what a vertical line carries at its left, and how wide that is at its right."""
        if name:
            self.text(x - 8, y, f"${name}$", anchor="end", size="13")
        if width:
            self.text(x + 8, y, f"${width}$", "faint", anchor="start", size="13")

    def line(self, *points: Point, arrow: bool = True, dashed: bool = False) -> None:
        """Draw straight lines from point to point, with an arrow at the end."""
        path = "L".join(f"{x:g} {y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.under.append(f'<path class="line" d="M{path}" fill="none"{dash}/>')
        if arrow:
            self._head(points[-2], points[-1])

    def _head(self, start: Point, end: Point) -> None:
        (x0, y0), (x, y) = start, end
        length = abs(x - x0) + abs(y - y0)
        dx, dy = 8 * (x - x0) / length, 8 * (y - y0) / length
        corners = (x, y), (x - dx - dy / 2, y - dy + dx / 2), (x - dx + dy / 2, y - dy - dx / 2)
        listed = " ".join(f"{a:g},{b:g}" for a, b in corners)
        self.under.append(f'<polygon class="head" points="{listed}"/>')

    def dot(self, *points: Point) -> None:
        """Mark where a line branches off."""
        for x, y in points:
            self.over.append(f'<circle class="head" cx="{x:g}" cy="{y:g}" r="3"/>')

    def svg(self) -> str:
        """The figure as a file."""
        width, height = self.size
        dark = f"@media (prefers-color-scheme: dark){{{rules(DARK)}}}"
        body = "\n".join([*self.under, *self.over])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" font-family="sans-serif" '
            f'stroke-width="1.4">\n<title>{escape(self.title)}</title>\n'
            f"<style>text{{stroke:none}}{rules(LIGHT)}{dark}</style>\n"
            f'<rect class="paper" width="{width}" height="{height}" rx="8"/>\n{body}\n</svg>\n'
        )
