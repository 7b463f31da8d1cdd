"""Plots of the losses of a training: in the terminal, and as a picture."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.disk import replacing
from numpy_xlstm.numerics import Array

SMOOTH = "training, smoothed"

NARROW = 24
"""Width in characters below which a terminal has no room for a plot."""

Curves = Mapping[str, tuple[Array, Array]]
"""Steps and bits per character, by name."""


def columns(entries: Iterable[Mapping[str, Any]], *names: str) -> Array:
    """Return the values in a log as an array (names, lines); absent values are NaN."""
    rows = (tuple(entry.get(name) for name in names) for entry in entries)
    return np.fromiter(rows, np.dtype((float, len(names)))).T


def loss_curves(entries: Iterable[Mapping[str, Any]]) -> Curves:
    """Return the curves of a log."""
    steps, bits, validations = columns(entries, "step", "bits", "validation")
    curves = {"training": (steps, bits), SMOOTH: (steps, smoothed(bits, len(bits) / 50))}
    if (validated := np.isfinite(validations)).any():
        curves["validation"] = steps[validated], validations[validated]
    return curves


def show_curves(curves: Curves) -> None:
    """Print a plot of the loss over the steps, if the terminal has room and characters for it."""
    from rich.console import Console
    from uniplot import plot_to_string

    console = Console()
    if (
        curves["training"][0].size < 2
        or console.width < NARROW
        or not console.encoding.startswith("utf")
    ):
        return
    shown = {name: curve for name, curve in curves.items() if name != "training"}
    steps, bits = zip(*shown.values(), strict=True)
    options: Any = {"legend_labels": list(shown), "color": console.is_terminal, "lines": True}
    size: Any = {"width": min(console.width, 80) - 12, "height": 10}
    print(plot_to_string(bits, steps, title="bits/char over steps", **options, **size))


def save_loss_picture(path: Path, curves: Curves, levels: Mapping[str, float]) -> None:
    """Plot bits per character over steps, and levels for comparison."""
    from matplotlib.figure import Figure

    if not curves["training"][0].size:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*curves["training"], color="C0", alpha=0.25, linewidth=0.8)
    axes.plot(*curves[SMOOTH], color="C0", label=SMOOTH)
    if "validation" in curves:
        axes.plot(*curves["validation"], "o-", color="C1", markersize=4, label="validation")
    for (name, level), style in zip(levels.items(), ("--", ":", "-.") * len(levels), strict=False):
        axes.axhline(level, color="0.4", linestyle=style, linewidth=1, label=name)
    axes.set(xlabel="step", ylabel="bits/char")
    axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix("."))


def smoothed(values: Array, span: float) -> Array:
    """Average over about ``span`` values around each, over fewer at the ends, without a delay."""
    from scipy.ndimage import gaussian_filter1d

    def around(numbers: Array) -> Array:
        means: Array = gaussian_filter1d(numbers, max(span / 4, 0.05), mode="constant")
        return means

    return around(np.asarray(values, float)) / around(np.ones(len(values)))
