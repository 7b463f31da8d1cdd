"""Draw the cells as SVG, forward and backward: ``python -m docs.figures.cells``.

All in one language: the memory goes from left to right, the gates come from below, and the
output leaves at the lower right. The backward is the same drawing with its arrows turned round.
"""

from functools import partial
from pathlib import Path

from docs.figures.drawing import Figure, Point

WIDTH, PANEL = 400, 372
FORGET, INPUT, VALUE, OUTPUT = 75.0, 165.0, 245.0, 340.0
"""Where the columns of the gates stand."""


class Cell(Figure):
    """A sheet with two panels, and what the cells have in common."""

    def __init__(self, title: str, kept: list[str]) -> None:
        super().__init__(WIDTH, 2 * PANEL + 60, title, letters=1.3)  # three of them in a row
        self.back = False
        self.top = 0.0
        for row, line in enumerate(kept):
            self.text(WIDTH / 2, 2 * PANEL + 16 + 18 * row, line, "faint", size="11")

    def panel(self, number: int) -> None:
        """Begin the forward, 0, or the backward, 1."""
        self.back, self.top = bool(number), number * PANEL
        self.text(14, self.top + 24, ("forward", "backward")[number], "faint", anchor="start")

    def wire(self, *points: Point) -> None:
        """Draw an arrow in the direction of the forward, or against it."""
        moved = [(x, y + self.top) for x, y in points]
        self.line(*(reversed(moved) if self.back else moved))

    def name(self, x: float, y: float, name: str, anchor: str = "start") -> None:
        """Write what a line carries: its name, or that of its cotangent."""
        label = f"δ${name}$" if self.back else f"${name}$"
        self.text(x, y + self.top, label, anchor=anchor, size="15")

    def knot(self, x: float, y: float, sign: str) -> None:
        """A sum or a product on a line."""
        self.operation(x, y + self.top, sign)

    def function(
        self, x: float, y: float, label: str, width: float = 46, kind: str = "act"
    ) -> None:
        """A box with what it computes."""
        self.box(x, y + self.top, width, [label], kind)

    def branch(self, x: float, y: float) -> None:
        """A line that is read twice; on the way back, two cotangents that are added."""
        if self.back:
            self.operation(x, y + self.top, "+")
        else:
            self.dot((x, y + self.top))

    def pre_activations(self, label: str, names: dict[float, str], gates: float) -> None:
        """The affine map at the bottom, and a line to each gate."""
        self.function(WIDTH / 2, 325, label, WIDTH - 40, "weight")
        for x, name in names.items():
            self.wire((x, 310), (x, gates + 15))
            if name:
                self.name(x + 6, 297, name)
        self.wire((120, 362), (120, 340))
        self.name(128, 359, "x")

    def state_before(self, recurrent: bool) -> None:
        """h₋ at the bottom, of the cells that read it."""
        if recurrent:
            self.wire((280, 362), (280, 340))
            self.name(288, 359, "h_{−}")

    def output(self, y: float, x: float = OUTPUT) -> None:
        """The product with the output gate, and h."""
        self.knot(x, y, "∘")
        self.wire((x, 245), (x, y + 12))
        self.name(x + 6, 235, "o")
        self.wire((x + 12, y), (WIDTH - 8, y))
        self.name(WIDTH - 14, y - (10 if x == OUTPUT else 18), "h", "end")

    def memory(
        self, y: float, name: str, factor: float, term: float, end: float, above: float = 9
    ) -> None:
        """A line of the memory: times the forget gate, plus what is written."""
        self.wire((10, y), (factor - 12, y))
        self.name(12, y - above, f"{name}_{{−}}")
        self.knot(factor, y, "∘")
        self.wire((factor + 12, y), (term - 12, y))
        self.knot(term, y, "+")
        self.wire((term + 12, y), (end, y))


def draw_lstm(f: Cell, out: float = OUTPUT, peepholes: bool = False) -> None:
    """One panel of the LSTM, or of the one with peepholes."""
    written = (INPUT + VALUE) / 2
    f.memory(60, "c", FORGET, written, WIDTH - 8, 16 if peepholes else 9)
    f.name(WIDTH - 14, 51, "c", "end")
    f.branch(out, 60)
    f.wire((out, 72 if f.back else 60), (out, 95))
    f.function(out, 110, "tanh")
    f.wire((out, 125), (out, 148))
    f.output(160, out)
    f.wire((FORGET, 245), (FORGET, 72))
    f.name(FORGET + 6, 200 if peepholes else 235, "f")
    f.knot(written, 150, "∘")
    f.wire((written, 138), (written, 72))
    f.wire((INPUT, 245), (INPUT, 150), (written - 12, 150))
    f.name(INPUT + 6, 235, "i")
    f.wire((VALUE, 245), (VALUE, 150), (written + 12, 150))
    f.name(VALUE + 6, 235, "z")
    for x, label in ((FORGET, "σ"), (INPUT, "σ"), (VALUE, "tanh"), (out, "σ")):
        f.function(x, 260, label)
    names = {FORGET: "f̃", INPUT: "ĩ", VALUE: "z̃", out: "õ"}
    if peepholes:
        draw_peepholes(f)
        names = dict.fromkeys(names, "")
    f.pre_activations("$W x + R h_{−} + b$", names, 260)
    f.state_before(True)


def draw_peepholes(f: Cell) -> None:
    """The lines from c₋ to the input and the forget gate, and from c to the output gate."""
    gap = 12 if f.back else 0
    for x, y in ((30, 60), (30, 215), (290, 60)):
        f.branch(x, y)
    f.wire((30, 60 + gap), (30, 215 - gap))
    f.wire((30, 215 + gap), (30, 292), (FORGET - 12, 292))
    f.wire((30 + gap, 215), (120, 215), (120, 292), (INPUT - 12, 292))
    f.wire((290, 60 + gap), (290, 292), (OUTPUT - 12, 292))
    for x, name, place in ((FORGET, "f", 38), (INPUT, "i", 124), (OUTPUT, "o", 296)):
        f.knot(x, 292, "+")
        f.text(place, 286 + f.top, f"$p_{{{name}}}$", "faint", anchor="start", size="12")


def draw_lstmp(f: Cell) -> None:
    """One panel of the LSTM with a projection: the output is narrower than the memory."""
    draw_lstm(f, out=312)
    f.function(354, 160, "$W_{hr}$", 36, "weight")


def draw_elman(f: Cell) -> None:
    """One panel of the Elman network."""
    f.wire((WIDTH / 2, 310), (WIDTH / 2, 225))
    f.name(WIDTH / 2 + 8, 270, "h̃")
    f.function(WIDTH / 2, 210, "φ")
    f.wire((WIDTH / 2, 195), (WIDTH / 2, 110), (WIDTH - 8, 110))
    f.name(WIDTH - 14, 101, "h", "end")
    f.pre_activations("$W x + R h_{−} + b$", {}, 260)
    f.state_before(True)


def draw_gru(f: Cell) -> None:
    """One panel of the GRU."""
    gap, middle, side = 12 if f.back else 0, 245, 300
    f.memory(60, "h", 110, middle, WIDTH - 8, 16)
    f.name(WIDTH - 14, 51, "h", "end")
    f.branch(40, 60)
    f.wire((40, 60 + gap), (40, 310))
    f.function(110, 260, "σ")
    f.wire((110, 310), (110, 275))
    f.name(116, 297, "z̃")
    f.wire((110, 245), (110, 110 + gap))
    f.name(116, 235, "z")
    f.branch(110, 110)
    f.wire((110, 110 - gap), (110, 72))
    f.wire((110 + gap, 110), (148, 110))
    f.function(173, 110, "1 − $z$", 50, "plain")
    f.wire((198, 110), (middle - 12, 110))
    f.knot(middle, 110, "∘")
    f.wire((middle, 98), (middle, 72))
    f.wire((middle, 160), (middle, 122))
    f.name(middle + 6, 148, "n")
    f.function(middle, 175, "tanh")
    f.wire((middle, 203), (middle, 190))
    f.knot(middle, 215, "+")
    f.wire((middle, 310), (middle, 227))
    f.name(middle + 6, 297, "a_{n}")
    f.wire((side - 12, 215), (middle + 12, 215))
    f.function(357, 260, "σ")
    f.wire((357, 310), (357, 275))
    f.name(363, 297, "r̃")
    f.name(363, 235, "r")
    f.knot(side, 215, "∘")
    f.wire((357, 245), (357, 215), (side + 12, 215))
    f.wire((side, 310), (side, 227))
    f.name(side + 4, 297, "s_{n}")
    f.function(WIDTH / 2, 325, "$W x + b$,  $R h_{−} + b′$", WIDTH - 40, "weight")
    f.wire((120, 362), (120, 340))
    f.name(128, 359, "x")


def stabiliser(f: Cell) -> None:
    """The gates i′ and f′, and the m that both are divided by."""
    middle = (FORGET + INPUT) / 2
    f.function(middle - 10, 260, "max(log $f$ + $m_{−}$, ĩ)", 190, "plain")
    f.wire((8, 222), (22, 222), (22, 245))
    f.name(8, 213, "m_{−}")
    f.wire((199, 245), (199, 210), (WIDTH - 8, 210))
    f.name(309, 204, "m")
    f.wire((FORGET, 245), (FORGET, 122))
    f.name(FORGET + 6, 235, "f′")
    f.name(INPUT + 6, 235, "i′")


def draw_slstm(f: Cell) -> None:
    """One panel of the sLSTM."""
    written = (INPUT + VALUE) / 2
    f.memory(60, "c", FORGET, written, WIDTH - 8)
    f.memory(110, "n", FORGET, INPUT, WIDTH - 8)
    f.name(WIDTH - 14, 51, "c", "end")
    f.name(WIDTH - 14, 128, "n", "end")
    f.wire((FORGET, 98), (FORGET, 72))
    f.branch(300, 60)
    f.branch(300, 110)
    f.wire((300, 72 if f.back else 60), (300, 85), (OUTPUT - 20, 85))
    f.wire((300, 98 if f.back else 110), (300, 85), (OUTPUT - 20, 85))
    f.function(OUTPUT + 2, 85, "$c$/$n$", 44, "plain")
    f.wire((OUTPUT, 100), (OUTPUT, 148))
    f.output(160)
    f.knot(written, 160, "∘")
    f.wire((written, 148), (written, 72))
    f.branch(INPUT, 160)
    f.wire((INPUT, 245), (INPUT, 122))
    f.wire((INPUT + (12 if f.back else 0), 160), (written - 12, 160))
    f.wire((VALUE, 245), (VALUE, 160), (written + 12, 160))
    f.name(VALUE + 6, 235, "z")
    stabiliser(f)
    for x, label in ((VALUE, "tanh"), (OUTPUT, "σ")):
        f.function(x, 260, label)
    names = {FORGET: "f̃", INPUT: "ĩ", VALUE: "z̃", OUTPUT: "õ"}
    f.pre_activations("$W x + R h_{−} + b$", names, 260)
    f.state_before(True)


def draw_mlstm(f: Cell) -> None:
    """One panel of the mLSTM."""
    key, value, query = 218, 258, 300
    f.memory(60, "C", FORGET, value, WIDTH - 8)
    f.memory(110, "n", FORGET, INPUT, WIDTH - 8)
    f.name(WIDTH - 14, 51, "C", "end")
    f.name(WIDTH - 14, 128, "n", "end")
    f.wire((FORGET, 98), (FORGET, 72))
    f.branch(query, 60)
    f.branch(query, 110)
    f.wire((query, 72 if f.back else 60), (query, 85), (OUTPUT - 32, 85))
    f.wire((query, 98 if f.back else 110), (query, 85), (OUTPUT - 32, 85))
    f.function(OUTPUT - 6, 85, "read", 54, "plain")
    f.wire((366, 210), (366, 85), (OUTPUT + 22, 85))
    f.branch(366, 210)
    f.wire((query + 4, 310), (query + 4, 178), (OUTPUT - 14, 178), (OUTPUT - 14, 100))
    f.name(query + 10, 297, "q")
    f.wire((OUTPUT, 100), (OUTPUT, 148))
    f.output(160)
    f.wire((INPUT, 245), (INPUT, 202))
    f.knot(INPUT, 190, "∘")
    f.wire((key, 310), (key, 190), (INPUT + 12, 190))
    f.name(key + 6, 297, "k")
    f.wire((INPUT, 178), (INPUT, 122))
    f.branch(INPUT, 150)
    f.knot(value, 150, "∘")
    f.wire((INPUT + (12 if f.back else 0), 150), (value - 12, 150))
    f.name(INPUT + 18, 144, "w")
    f.wire((value, 310), (value, 162))
    f.name(value + 6, 297, "v")
    f.wire((value, 138), (value, 72))
    stabiliser(f)
    f.function(OUTPUT, 260, "σ")
    names = {FORGET: "f̃", INPUT: "ĩ", OUTPUT: "õ"}
    f.pre_activations("$W x + b$: nothing of the past", names, 260)


DRAWN = {
    "lstm-cell.svg": (
        draw_lstm,
        "The LSTM cell, forward and backward",
        [
            "kept: $x$, $h_{−}$, $c_{−}$, the pre-activations, $i$, $f$, $z$, $o$, $c$",
            "made again: tanh $c$, slopes",
        ],
    ),
    "peephole-cell.svg": (
        partial(draw_lstm, peepholes=True),
        "The LSTM with peepholes, forward and backward",
        ["kept: as in the LSTM", "$p_{f}$, $p_{i}$ and $p_{o}$ scale the lines next to them"],
    ),
    "lstmp-cell.svg": (
        draw_lstmp,
        "The LSTM with a projection, forward and backward",
        [
            "kept: as in the LSTM; $h$ and $h_{−}$ have the width $P$,",
            "all between the boxes has the width $H$",
        ],
    ),
    "elman-cell.svg": (
        draw_elman,
        "The Elman network, forward and backward",
        ["kept: $x$, $h_{−}$, $h̃$", "made again: the slope"],
    ),
    "gru-cell.svg": (
        draw_gru,
        "The GRU, forward and backward",
        ["kept: $x$, $h_{−}$, $s_{n}$, and the pre-activations", "made again: slopes"],
    ),
    "slstm-cell.svg": (
        draw_slstm,
        "The sLSTM cell, forward and backward",
        [
            "kept: $x$, the state, the pre-activations, $i′$, $f′$, $z$, $o$, $c$, $n$",
            "made again: $c$/$n$, slopes",
        ],
    ),
    "mlstm-cell.svg": (
        draw_mlstm,
        "The mLSTM cell, forward and backward",
        [
            "kept: $x$, the state, $q$, $k$, $v$, the gates, $C$, $n$, and what is",
            "read: $C$ᵀ$q$ / max(|$q$·$n$|, $e$⁻ᵐ), with its denominator",
        ],
    ),
}


def figure(name: str) -> str:
    """One of the figures as a file."""
    draw, title, kept = DRAWN[name]
    sheet = Cell(title, kept)
    for number in (0, 1):
        sheet.panel(number)
        draw(sheet)
    return sheet.svg()


FIGURES = {name: partial(figure, name) for name in DRAWN}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        Path(__file__).with_name(name).write_text(draw(), encoding="utf-8")
