"""The picture of the losses of a training."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.disk import replacing
from numpy_xlstm.numerics import Array


def save_picture(
    path: Path,
    entries: Iterable[Mapping[str, Any]],
    name: str,
    unit: str,
    levels: Mapping[str, float],
) -> None:
    """Plot a quantity of a log and the validations over the steps, and levels for comparison."""
    from matplotlib.figure import Figure

    keys = "step", name, "validation"
    rows = (tuple(entry.get(key) for key in keys) for entry in entries)  # NaN if absent
    steps, values, validations = np.fromiter(rows, np.dtype((float, 3))).T
    if not steps.size:
        return
    seen = np.isfinite(validations)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, values, color="C0", alpha=0.25, linewidth=0.8)
    mean = smoothed(values, steps.size / 50)
    axes.plot(steps, mean, color="C0", label="training, smoothed")
    if seen.any():
        points: Any = {"color": "C1", "markersize": 4, "label": "validation"}
        axes.plot(steps[seen], validations[seen], "o-", **points)
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
