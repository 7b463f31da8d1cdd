"""Plots of the losses of a training: in the terminal, and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.disk import replacing
from numpy_xlstm.numerics import Array

SMOOTH = "training, smoothed"

Curves = dict[str, Sequence[Array]]
"""Steps and bits per character, by name."""


def loss_curves(entries: Sequence[Mapping[str, Any]]) -> Curves:
    """Return the curves of a log, which has at least one line."""
    steps, bits = (np.array([entry[key] for entry in entries]) for key in ("step", "bits"))
    found = [(e["step"], e["validation"]) for e in entries if e.get("validation") is not None]
    curves: Curves = {"training": (steps, bits), SMOOTH: (steps, smoothed(bits, len(bits) / 50))}
    return curves | ({"validation": list(np.array(found).T)} if found else {})


def show_curves(entries: Sequence[Mapping[str, Any]]) -> None:
    """Print a plot of the loss over the steps, if the terminal has the characters for it."""
    from rich.console import Console
    from uniplot import plot_to_string

    console = Console()
    if len(entries) < 2 or not console.encoding.startswith("utf"):
        return
    curves = loss_curves(entries)
    del curves["training"]
    steps, bits = zip(*curves.values(), strict=True)
    options: Any = {"legend_labels": list(curves), "color": console.is_terminal, "lines": True}
    size: Any = {"width": min(console.width, 80) - 12, "height": 10}
    print(plot_to_string(bits, steps, title="bits/char over steps", **options, **size))


def save_loss_picture(
    path: Path, entries: Sequence[Mapping[str, Any]], levels: Mapping[str, float]
) -> None:
    """Plot bits per character over steps from the lines of a log, and levels for comparison."""
    from matplotlib.figure import Figure

    if not entries:
        return
    curves = loss_curves(entries)
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
        found: Array = gaussian_filter1d(numbers, max(span / 4, 0.05), mode="constant")
        return found

    return around(np.asarray(values, float)) / around(np.ones(len(values)))
