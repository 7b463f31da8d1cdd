"""Draw the figures of the blocks as SVG: ``python -m docs.figures.blocks``."""

from pathlib import Path

from docs.figures.drawing import Figure

KEYS, VALUES = "N_{H}D_{K}", "N_{H}D_{V}"
"""Widths of xLSTM Large."""


def memory_branch(f: Figure, x: float) -> None:
    """The half of the up-projection that goes through the convolution and the mLSTM."""
    p, a = 450, 300
    f.line((p, 175), (p, 315))
    f.edge(p, 250, "p", "I")
    f.dot((p, 195))
    f.line((p, 195), (a, 195), (a, 216))
    f.box(a, 239, 150, ["conv, SiLU", "state: $K$ − 1 inputs"], "act", "(2)")
    f.line((a, 262), (a, 284), arrow=False)
    f.edge(a, 277, "a", "I")
    for column in (250, 350):
        f.line((a, 284), (column, 284), (column, 315))
    f.dot((a, 284), (250, 284))
    for column, name in ((250, "q"), (350, "k"), (p, "v")):
        f.box(column, 330, 66, [f"$W_{{{name}}}$"], "weight", "(3)" if name == "v" else "")
        f.line((column, 345), (column, 447))
        f.edge(column, 367, name, "I")
        f.dot((column, 385))
    f.line((250, 385), (512, 385))
    f.box(555, 385, 86, ["$W_{i}$, $W_{f}$"], "weight", "(4)")
    f.line((555, 400), (555, 470), (500, 470))
    f.edge(555, 440, "ĩ, f̃", "2 N_{H}")
    f.box(x, 470, 300, ["mLSTM", "state: $C$, $n$, $m$"], "memory", "(5)")
    f.line((x, 493), (x, 525))
    f.edge(x, 511, "h", "I")
    f.box(x, 540, 130, ["norm per head"], "norm", "(5)")
    f.line((x, 555), (x, 588))
    f.line((250, 284), (110, 284), (110, 600), (338, 600))
    f.edge(110, 440, "a", "I")
    f.box(215, 600, 90, ["∘ skip $s$"], "weight")
    f.operation(x, 600, "+", "(6)")
    f.line((x, 612), (x, 648))
    f.edge(x, 634, "r", "I")


def gate_branch(f: Figure, x: float) -> None:
    """The half of the up-projection that gates the result."""
    z = 640
    f.line((z, 175), (z, 315))
    f.edge(z, 250, "z", "I")
    f.box(z, 330, 80, ["SiLU"], "act")
    f.line((z, 345), (z, 660), (x + 12, 660))
    f.edge(z, 510, "g", "I")
    f.operation(x, 660, "∘", "(7)")


def mlstm_block() -> str:
    """The pre up-projection block."""
    f = Figure(740, 795, "The mLSTM block")
    x = 350
    f.text(x, 30, "$x$")
    f.line((x, 38), (x, 75))
    f.dot((x, 50))
    f.box(x, 90, 130, ["LayerNorm"], "norm")
    f.line((x, 105), (x, 145))
    f.edge(x, 128, "u", "D")
    f.box(470, 160, 420, ["$W_{up}$"], "weight", "(1)")

    memory_branch(f, x)
    gate_branch(f, x)
    f.line((x, 672), (x, 695))
    f.box(x, 710, 150, ["$W_{down}$"], "weight", "(7)")
    f.line((x, 725), (x, 748))
    f.text(x - 8, 741, "$D$", "faint", anchor="end", size="13")
    f.operation(x, 760, "+", "block.1")
    f.line((x, 50), (50, 50), (50, 760), (x - 12, 760))
    f.edge(50, 440, "", "D")
    f.line((x + 12, 760), (430, 760))
    f.text(438, 765, "$y$", anchor="start")
    return f.svg()


def feed_forward(f: Figure, x: float, top: float, norm: str, act: str, number: str) -> None:
    """The second half of a block: norm, gated feed-forward layer, residual; 290 high."""
    f.line((x, top), (x, top + 35))
    f.dot((x, top + 12))
    f.box(x, top + 50, 130, [norm], "norm")
    f.line((x, top + 65), (x, top + 85), arrow=False)
    f.edge(x, top + 79, "", "D")
    for column, name in ((x - 75, "$W_{g}$"), (x + 75, "$W_{u}$")):
        f.line((x, top + 85), (column, top + 85), (column, top + 105))
        f.box(column, top + 120, 100, [name], "weight")
    f.dot((x, top + 85))
    f.line((x - 75, top + 135), (x - 75, top + 155))
    f.box(x - 75, top + 170, 100, [act], "act")
    f.line((x - 75, top + 185), (x - 75, top + 210), (x - 12, top + 210))
    f.line((x + 75, top + 135), (x + 75, top + 210), (x + 12, top + 210))
    f.edge(x + 75, top + 175, "", "U")
    f.edge(x - 75, top + 149, "", "U")
    f.operation(x, top + 210, "∘")
    f.line((x, top + 222), (x, top + 240))
    f.box(x, top + 255, 100, ["$W_{d}$"], "weight", "ffn.1")
    f.line((x, top + 270), (x, top + 293))
    f.text(x - 8, top + 285, "$D$", "faint", anchor="end", size="13")
    f.operation(x, top + 305, "+", number)
    f.line((x, top + 12), (50, top + 12), (50, top + 305), (x - 12, top + 305))
    f.line((x + 12, top + 305), (x + 80, top + 305))
    f.text(x + 88, top + 310, "$y$", anchor="start")


def slstm_block() -> str:
    """The post up-projection block."""
    f = Figure(740, 900, "The sLSTM block")
    x = 380
    f.text(x, 30, "$x$")
    f.line((x, 38), (x, 75))
    f.dot((x, 50))
    f.box(x, 90, 130, ["LayerNorm"], "norm")
    f.line((x, 105), (x, 135), arrow=False)
    f.edge(x, 123, "u", "D")
    f.dot((x, 135))
    i, forget, cell, o = 200, 320, 440, 560
    middle = (i + forget) / 2
    f.line((x, 135), (middle, 135), (middle, 157))
    f.box(middle, 180, 150, ["conv, SiLU", "state: $K$ − 1 inputs"], "act", "(1)")
    f.line((middle, 203), (middle, 225), arrow=False)
    f.edge(middle, 218, "a", "D")
    f.dot((middle, 225))
    for column in (i, forget):
        f.line((middle, 225), (column, 225), (column, 252))
    for column in (cell, o):
        f.line((x, 135), (column, 135), (column, 252))
    f.dot((cell, 135))
    gates = ((i, "i", "fgate"), (forget, "f", "igate"), (cell, "z", "zgate"), (o, "o", "ogate"))
    for column, name, stored in gates:
        number = "(2)" if name == "o" else ""
        f.box(column, 275, 84, [f"$W_{{{name}}}$", stored], "weight", number)
        f.line((column, 298), (column, 377))
    for column, name in ((i, "ĩ"), (forget, "f̃"), (cell, "z̃"), (o, "õ")):
        f.edge(column, 340, name, "D")
    f.box(x, 400, 450, ["sLSTM", "state: $h$, $c$, $n$, $m$"], "memory", "(3)")
    f.line((x, 423), (x, 475))
    f.dot((x, 448))
    f.edge(x, 466, "h", "D")
    f.line((x, 448), (672, 448), (672, 400), (605, 400))
    f.box(672, 424, 70, ["$R h_{t−1}$"], "weight")
    f.box(x, 490, 130, ["norm per head"], "norm", "(4)")
    f.line((x, 505), (x, 538))
    f.text(x - 8, 527, "$D$", "faint", anchor="end", size="13")
    f.operation(x, 550, "+", "block.1")
    f.line((x, 50), (50, 50), (50, 550), (x - 12, 550))
    f.edge(50, 300, "", "D")
    feed_forward(f, x, 562, "LayerNorm", "GELU", "block.2")
    return f.svg()


def large_projections(f: Figure, x: float) -> None:
    """The projections of xLSTM Large, from the norm to the memory and the output gate."""
    columns = (150, 250, 350, 450, 550, 660)
    for column in columns:
        f.line((x, 135), (column, 135), (column, 160))
    f.dot(*((column, 135) for column in columns[1:-1]))
    names = ("q", "k", "v", "i", "f", "o")
    widths = (KEYS, KEYS, VALUES, "N_{H}", "N_{H}", VALUES)
    for column, name, width in zip(columns, names, widths, strict=True):
        f.box(column, 175, 66, [f"$W_{{{name}}}$"], "weight", "(1)" if name == "o" else "")
        f.edge(column, 208, "", width)
    for column in columns[:3]:
        f.line((column, 190), (column, 297))
    for column, name in zip(columns[:3], names, strict=False):
        f.edge(column, 276, name, "")
    for column, name in ((450, "ĩ"), (550, "f̃")):
        f.line((column, 190), (column, 220))
        f.box(column, 235, 84, ["soft cap"], "act", "(1)" if name == "f̃" else "")
        f.line((column, 250), (column, 297))
        f.edge(column, 276, name, "")


def xlstm_large_block() -> str:
    """The block of xLSTM 7B."""
    f = Figure(740, 885, "The block of xLSTM Large")
    x = 350
    f.text(x, 30, "$x$")
    f.line((x, 38), (x, 75))
    f.dot((x, 50))
    f.box(x, 90, 130, ["RMSNorm"], "norm")
    f.line((x, 105), (x, 135), arrow=False)
    f.edge(x, 123, "u", "D")
    large_projections(f, x)
    f.box(x, 320, 476, ["mLSTM", "state: $C$, $n$, $m$"], "memory", "(2)")
    f.line((x, 343), (x, 375))
    f.edge(x, 361, "h", VALUES)
    f.box(x, 390, 130, ["norm per head"], "norm", "(3)")
    f.line((x, 405), (x, 428))
    f.line((660, 190), (660, 220))
    f.box(660, 235, 66, ["$σ$"], "act")
    f.line((660, 250), (660, 440), (x + 12, 440))
    f.edge(660, 350, "o", VALUES)
    f.operation(x, 440, "∘", "(4)")
    f.line((x, 452), (x, 472))
    f.box(x, 487, 130, ["$W_{out}$"], "weight", "(4)")
    f.line((x, 502), (x, 524))
    f.text(x - 8, 516, "$D$", "faint", anchor="end", size="13")
    f.operation(x, 536, "+", "block.1")
    f.line((x, 50), (50, 50), (50, 536), (x - 12, 536))
    f.edge(50, 290, "", "D")
    feed_forward(f, x, 548, "RMSNorm", "SiLU", "block.2")
    return f.svg()


def language_model() -> str:
    """Both language models: embedding, blocks, norm, head."""
    f = Figure(740, 170, "A language model")
    y = 90
    f.text(38, y + 5, "tokens")
    f.line((66, y), (85, y))
    f.box(130, y, 90, ["embedding"], "weight")
    f.line((175, y), (200, y))
    f.box(245, y, 90, ["block 0"], "memory")
    f.line((290, y), (310, y), arrow=False)
    f.text(323, y + 4, "…")
    f.line((336, y), (358, y))
    f.box(408, y, 100, ["block $n$ − 1"], "memory")
    f.line((458, y), (480, y))
    f.box(512, y, 64, ["norm"], "norm")
    f.line((544, y), (566, y))
    f.box(598, y, 64, ["head"], "weight")
    f.line((630, y), (652, y))
    f.box(690, y, 76, ["soft cap"], "act")
    f.line((690, y + 15), (690, y + 45))
    f.text(690, y + 62, "logits")
    for x in (245, 408):
        f.line((x - 22, y - 35), (x - 22, y - 15), dashed=True)
        f.line((x + 22, y - 15), (x + 22, y - 35), dashed=True)
        f.text(x, y - 43, "state before, after", "faint", size="11")
    f.line((130, y + 15), (130, y + 45), (598, y + 45), (598, y + 15), arrow=False, dashed=True)
    f.text(364, y + 62, "one matrix if the weights are tied", "faint", size="11")
    return f.svg()


FIGURES = {
    "language-model.svg": language_model,
    "mlstm-block.svg": mlstm_block,
    "slstm-block.svg": slstm_block,
    "xlstm-large-block.svg": xlstm_large_block,
}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        Path(__file__).with_name(name).write_text(draw(), encoding="utf-8")
