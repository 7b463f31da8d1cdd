"""The picture of a training."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.disk import replacing
from numpy_xlstm.numerics import Array


def columns(entries: Iterable[Mapping[str, Any]], *names: str) -> Array:
    """Return the values in a log as an array (names, lines); absent values are NaN."""
    rows = (tuple(entry.get(name) for name in names) for entry in entries)
    return np.fromiter(rows, np.dtype((float, len(names)))).T


def save_picture(
    path: Path,
    entries: Iterable[Mapping[str, Any]],
    name: str,
    unit: str,
    levels: Mapping[str, float],
) -> None:
    """Plot a quantity of a log and the validations over the steps, and levels for comparison."""
    from matplotlib.figure import Figure

    steps, values, validations = columns(entries, "step", name, "validation")
    if not steps.size:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, values, color="C0", alpha=0.25, linewidth=0.8)
    axes.plot(steps, smoothed(values, steps.size / 50), color="C0", label="training, smoothed")
    if (seen := np.isfinite(validations)).any():
        curve = steps[seen], validations[seen]
        axes.plot(*curve, "o-", color="C1", markersize=4, label="validation")
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
