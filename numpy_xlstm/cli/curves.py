"""Plots of the losses of a training: in the terminal, and as a picture."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.disk import replacing
from numpy_xlstm.numerics import Array

NARROW = 24
"""Width in characters below which a terminal has no room for a plot."""


def columns(entries: Iterable[Mapping[str, Any]], *names: str) -> Array:
    """Return the values in a log as an array (names, lines); absent values are NaN."""
    rows = (tuple(entry.get(name) for name in names) for entry in entries)
    return np.fromiter(rows, np.dtype((float, len(names)))).T


def loss_curves(entries: Iterable[Mapping[str, Any]], name: str) -> dict[str, tuple[Array, Array]]:
    """Return steps and values of a quantity of a log, smoothed too, and of its validations."""
    steps, values, validations = columns(entries, "step", name, "validation")
    seen = np.isfinite(validations)
    return {
        "training": (steps, values),
        "training, smoothed": (steps, smoothed(values, steps.size / 50)),
        "validation": (steps[seen], validations[seen]),
    }


def show_plot(entries: Iterable[Mapping[str, Any]]) -> None:
    """Print a plot of the loss over the steps, if the terminal has room and characters for it."""
    from rich.console import Console
    from uniplot import plot_to_string

    console = Console()
    raw, *shown = loss_curves(entries, "bits").items()
    curves = {name: curve for name, curve in shown if curve[0].size}
    if raw[1][0].size < 2 or console.width < NARROW or not console.encoding.startswith("utf"):
        return
    steps, bits = zip(*curves.values(), strict=True)
    options: Any = {"legend_labels": list(curves), "color": console.is_terminal, "lines": True}
    size: Any = {"width": min(console.width, 80) - 12, "height": 10}
    print(plot_to_string(bits, steps, title="bits/char over steps", **options, **size))


def save_picture(
    path: Path,
    entries: Iterable[Mapping[str, Any]],
    name: str,
    unit: str,
    levels: Mapping[str, float],
) -> None:
    """Plot a quantity of a log and the validations over the steps, and levels for comparison."""
    from matplotlib.figure import Figure

    raw, mean, validations = loss_curves(entries, name).values()
    if not raw[0].size:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*raw, color="C0", alpha=0.25, linewidth=0.8)
    axes.plot(*mean, color="C0", label="training, smoothed")
    if validations[0].size:
        axes.plot(*validations, "o-", color="C1", markersize=4, label="validation")
    for (label, level), style in zip(levels.items(), ("--", ":", "-.") * len(levels), strict=False):
        axes.axhline(level, color="0.4", linestyle=style, linewidth=1, label=label)
    axes.set(xlabel="step", ylabel=unit)
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
