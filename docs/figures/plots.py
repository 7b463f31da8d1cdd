"""Draw the figures that show a run as SVG: ``python -m docs.figures.plots``, about four minutes.

Two cells are trained for it. Needs the extra ``plot``.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from docs.figures.colours import DARK, LIGHT
from numpy_xlstm import AdamW, LanguageModel, LSTMCell, SequenceLayer, mLSTM, sLSTM, sLSTMCell
from numpy_xlstm.numerics import Array, log_sigmoid
from numpy_xlstm.training import Budget, TrainingState, random_windows, split_text, train
from numpy_xlstm.training.text import default_text

HERE = Path(__file__).parent
NAMES = "ink", "faint", "paper", "first", "second", "third", "fourth"
"""The colours of a figure: what it is drawn in, and what a theme makes of it."""

LIGHT_LINES = {"first": "#0969da", "second": "#bc4c00", "third": "#1a7f37", "fourth": "#8250df"}
DARK_LINES = {"first": "#58a6ff", "second": "#f0883e", "third": "#3fb950", "fourth": "#bc8cff"}
THEMES = LIGHT | LIGHT_LINES, DARK | DARK_LINES
WHITE, BLUE, BROWN = "#f6f8fa", "#0969d9", "#bc4c01"
"""The ends of colour maps: those of no theme, as a value has one colour in both."""
KEYS = "fill", "stroke"
INK, FAINT, PAPER, FIRST, SECOND, THIRD, FOURTH = (THEMES[0][name] for name in NAMES)

SENTENCE = 'A class definition is an executable statement, and "self" is a name.'

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "numpy-xlstm",
    "font.size": 11,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "figure.facecolor": PAPER,
    "legend.frameon": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "lines.linewidth": 1.8,
}


def themed(svg: str) -> str:
    """Return a figure with its colours as attributes, and rules that change them in the dark.

    A program that knows neither variables nor media queries draws it in the light theme.
    """
    light, dark = THEMES
    names = {light[name]: name for name in NAMES}

    def split(style: re.Match[str]) -> str:
        pairs = [declaration.split(": ") for declaration in style[1].split("; ")]
        moved = "".join(f' {key}="{value}"' for key, value in pairs if value in names)
        rest = "; ".join(f"{key}: {value}" for key, value in pairs if value not in names)
        return (f' style="{rest}"' if rest else "") + moved

    svg = re.sub(r' style="([^"]*)"', split, svg)
    rules = "".join(
        f'[{key}="{light[name]}"]{{{key}:{dark[name]}}}' for name in NAMES for key in KEYS
    )
    style = f'<style type="text/css">@media(prefers-color-scheme:dark){{{rules}}}'
    return svg.replace('<style type="text/css">', style, 1)


def save(figure: Figure, name: str | Path) -> None:
    """Write a figure whose colours are those of the reader's theme."""
    path = HERE / name
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    svg = themed(path.read_text("utf-8"))
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg)
    svg = re.sub(r'clip-path="url\(#\w+\)" style="fill: (#\w{6})"', r'fill="\1"', svg)
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", "utf-8")


def difference_errors() -> dict[str, tuple[Array, Array]]:
    """The error of a slope by four methods, against the step of the difference."""
    rng = np.random.default_rng(0)
    cell = sLSTMCell(3, 4, num_heads=2, rng=rng)
    state = cell.init_state(2)
    for x in rng.standard_normal((3, 2, 3)):
        before = state
        y, state, cache = cell.forward(x, state)
    dy, direction = rng.standard_normal(y.shape), rng.standard_normal(x.shape)
    exact = float((cell.backward(dy, cache)[0] * direction).sum())

    def loss(step: complex) -> Any:
        return (dy * cell.forward(x + step * direction, before)[0]).sum()

    def central(h: float) -> float:
        return float(loss(h) - loss(-h)) / (2 * h)

    methods: dict[str, Callable[[float], float]] = {
        "forward difference": lambda h: float(loss(h) - loss(0.0)) / h,
        "central difference": central,
        "central, Richardson": lambda h: (4 * central(h / 2) - central(h)) / 3,
        "complex step": lambda h: float(complex_loss(cell, dy, x, before, direction, h)) / h,
    }
    steps = np.logspace(0, -16, 65)
    return {
        name: (steps, np.array([abs(f(h) / exact - 1) for h in steps]))
        for name, f in methods.items()
    }


def complex_loss(cell: Any, dy: Array, x: Array, before: Any, direction: Array, h: float) -> Any:
    """Im of the loss at x + i h·direction."""
    params = {name: array.astype(complex) for name, array in cell.params.items()}
    state = before._replace(**{n: a.astype(complex) for n, a in before._asdict().items()})
    y, _, _ = cell.with_params(params).forward(x + 1j * h * direction, state)
    return (dy * y).sum().imag


def draw_difference_errors() -> None:
    """The V of each difference, and the complex step beside it."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    colours = (SECOND, FIRST, THIRD, FOURTH)
    for (name, (steps, errors)), colour in zip(difference_errors().items(), colours, strict=True):
        axes.plot(steps, np.maximum(errors, 1e-16), color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="step h", ylabel="relative error of the slope")
    axes.invert_xaxis()
    axes.legend()
    save(figure, "difference-errors.svg")


def gradient_norms(T: int = 256, H: int = 64, B: int = 16) -> dict[str, Array]:
    """Norms of ∂L/∂x at each distance from the last step, which alone has a loss."""
    found = {}
    layers: dict[str, Callable[[np.random.Generator], Any]] = {
        "LSTM": lambda rng: SequenceLayer(LSTMCell(H, H, rng=rng)),
        "sLSTM": lambda rng: sLSTM(H, H, num_heads=4, rng=rng),
        "mLSTM": lambda rng: mLSTM(H, H, num_heads=4, rng=rng),
    }
    for name, make in layers.items():
        rng = np.random.default_rng(1)
        layer = make(rng)
        x = rng.standard_normal((B, T, H))
        y, _, cache = layer.forward(x)
        dy = np.zeros_like(y)
        dy[:, -1] = rng.standard_normal((B, H))
        dx, _, _ = layer.backward(dy, cache)
        norms = np.sqrt((dx**2).sum(axis=(0, 2)))[::-1]
        found[name] = norms / norms[0]
    return found


def draw_gradient_norms() -> None:
    """How far back a gradient reaches, before any training."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for (name, norms), colour in zip(gradient_norms().items(), (SECOND, FIRST, THIRD), strict=True):
        axes.plot(norms, color=colour, label=name)
    axes.set(yscale="log", xlabel="steps back from the loss", ylabel="‖∂L/∂x‖, last step = 1")
    axes.legend()
    save(figure, "gradient-norms.svg")


def trained(make: Callable[[int, np.random.Generator], Any], steps: int = 1200) -> Any:
    """A small language model after some training on the default text, and its tokenizer."""
    rng = np.random.default_rng(0)
    split = split_text(default_text(), window=128)
    model = make(split.tokenizer.size, rng).astype(np.float32)
    state = TrainingState(model, AdamW(model.params, lr=4e-3), rng)
    batches: Iterator[Any] = random_windows(split.train_ids, 16, 128, rng)
    losses = [p.loss for p in train(state, batches, Budget(steps=steps), max_norm=1.0)]
    print(f"{type(model.body).__name__}: {losses[0]:.2f} to {np.mean(losses[-50:]):.2f} nats")
    return model.astype(np.float64), split.tokenizer


def label_characters(axes: Any, text: str) -> None:
    """Write a text below an axis, a character for each step."""
    axes.set_xticks(np.arange(len(text)) + 0.5, list(text.replace(" ", "␣")))
    axes.tick_params(axis="x", length=0, labelsize=10, labelcolor=INK)
    axes.grid(visible=False)


def shades(*colours: str) -> LinearSegmentedColormap:
    """A colour map through some colours."""
    return LinearSegmentedColormap.from_list("shades", colours)


def draw_reading() -> None:
    """What a trained sLSTM writes and keeps while it reads a sentence."""
    model, tokenizer = trained(
        lambda size, rng: LanguageModel(size, 32, sLSTM(32, 64, num_heads=4, rng=rng), rng=rng)
    )
    vectors = model.params["embedding.weight"][tokenizer.encode(SENTENCE)]
    cell = model.body.cell
    state, written, kept = cell.init_state(1), [], []
    for x in vectors:
        _, state, cache = cell.forward(x[None], state)
        written.append((cache.i / cache.n)[0])
        kept.append((cache.c / cache.n)[0])
    share, memory = np.array(written).T, np.array(kept).T
    units = np.argsort(share[:, 1:].mean(axis=1))[np.linspace(0, 63, 16).astype(int)]
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    panels = (
        (above, share[units], shades(WHITE, BLUE), (0, 1), "i′/n: share of what is new"),
        (below, memory[units], shades(BLUE, WHITE, BROWN), (-1, 1), "c/n: the memory"),
    )
    for axes, values, colours, (low, high), title in panels:
        mesh = axes.pcolormesh(values, cmap=colours, vmin=low, vmax=high)
        axes.set(ylabel="unit", yticks=[], title=title)
        figure.colorbar(mesh, ax=axes, pad=0.01)
        label_characters(axes, SENTENCE)
    save(figure, "reading.svg")


def log_weights(log_i: Array, log_f: Array) -> Array:
    """Return the log of the weight of each step j in the memory of each step t, from plain gates.

    Each is the sum of its own terms: a difference of longer sums would cancel digits.
    """
    T = len(log_i)
    terms = np.where(np.tri(T, k=-1, dtype=bool), log_f[:, None], 0)
    return np.where(np.tri(T, dtype=bool), terms.cumsum(axis=0) + log_i, -np.inf)


def draw_decay_matrix() -> None:
    """The weights of the parallel form, of a trained mLSTM that reads a sentence."""
    model, tokenizer = trained(
        lambda size, rng: LanguageModel(size, 32, mLSTM(32, 64, num_heads=4, rng=rng), rng=rng)
    )
    text = SENTENCE[:35]
    vectors = model.params["embedding.weight"][tokenizer.encode(text)]
    p = model.body.params
    i, f = (vectors @ p[f"W_{g}"].T + p[f"b_{g}"] for g in "if")
    T = len(vectors)
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    reach = log_sigmoid(f).mean(axis=0)
    for axes, head in zip(figure.subplots(1, 2), (reach.argmin(), reach.argmax()), strict=True):
        D = log_weights(i[:, head], log_sigmoid(f[:, head]))
        weights = np.exp(D - D.max(axis=1, keepdims=True))
        shown = np.ma.masked_where(~np.tri(T, dtype=bool), weights)
        mesh = axes.pcolormesh(shown, cmap=shades(WHITE, BLUE), vmin=0, vmax=1)
        label_characters(axes, text)
        axes.set_yticks(np.arange(T) + 0.5, list(text.replace(" ", "␣")))
        axes.tick_params(axis="y", length=0, labelsize=10, labelcolor=INK)
        axes.set(xlabel="written at step j", ylabel="read at step t", aspect="equal")
        axes.set_title(f"head {head}: the largest weight of each row is 1", fontsize=10)
        axes.invert_yaxis()
    figure.colorbar(mesh, ax=figure.axes, pad=0.01, shrink=0.8)
    save(figure, "decay-matrix.svg")


def capacity(pairs: int, d: int, width: int | None = None) -> tuple[float, float, float]:
    """How well a head of width d holds pairs of random keys of length 1 and normal values.

    The values have ``width`` numbers, by default d. Returns the relative error of Cᵀk, that of the
    answer with the normaliser, and the share of these answers whose nearest stored value is the
    right one; means over 10 memories.
    """
    rng, measured = np.random.default_rng(0), []
    for _ in range(10):
        keys, values = (rng.standard_normal((pairs, size)) for size in (d, width or d))
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        read = keys @ (keys.T @ values)
        answers = read / np.maximum(np.abs(keys @ keys.sum(axis=0)), 1)[:, None]
        nearest = ((values**2).sum(axis=1) / 2 - answers @ values.T).argmin(axis=1)
        errors = [np.linalg.norm(a - values) / np.linalg.norm(values) for a in (read, answers)]
        measured.append((*errors, (nearest == np.arange(pairs)).mean()))
    return tuple(np.mean(measured, axis=0).tolist())


def draw_capacity() -> None:
    """The error of a head against the pairs it holds, and the pairs that it can tell apart."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for d, colour in ((16, SECOND), (64, FIRST), (128, THIRD)):
        counts = np.unique(np.geomspace(1, 2 * d, 16).astype(int))
        error, normalised, recognised = np.array([capacity(n, d) for n in counts]).T
        left.plot(counts / d, error, "o", color=colour, label=f"d = {d}, without n")
        left.plot(counts / d, normalised, "x", color=colour, label=f"d = {d}, with n")
        right.plot(counts / d, recognised, color=colour, label=f"d = {d}")
    share = np.linspace(0, 2, 100)
    left.plot(share, np.sqrt(share), color=INK, linewidth=1, label="√(pairs / d)")
    left.set(xlabel="pairs / d", ylabel="relative error of a value")
    right.set(xlabel="pairs / d", ylabel="nearest value is the right one")
    left.legend(fontsize=10)
    right.legend()
    save(figure, "capacity.svg")


FIGURES = {
    "capacity.svg": draw_capacity,
    "difference-errors.svg": draw_difference_errors,
    "gradient-norms.svg": draw_gradient_norms,
    "reading.svg": draw_reading,
    "decay-matrix.svg": draw_decay_matrix,
}

if __name__ == "__main__":
    with rc_context(STYLE):
        for draw in FIGURES.values():
            draw()
