"""The picture of a training: its loss, its validations, and what counting would reach."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.errors import MissingExtraError
from numpy_xlstm.numerics import Array

MISSING_EXTRA = "the picture needs the plot extra: pip install 'numpy-xlstm[plot]'"


def save_loss_picture(
    path: str | Path, entries: Sequence[Mapping[str, Any]], levels: Mapping[str, float]
) -> None:
    """Draw bits per character over steps, of the lines of a log; without any there is no picture.

    ``levels`` are horizontal lines to compare with, by name. Raises :class:`MissingExtraError` if
    matplotlib is not there.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(MISSING_EXTRA) from error
    if not entries:
        return
    steps, bits = (np.array([entry[key] for entry in entries]) for key in ("step", "bits"))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, bits, color="C0", alpha=0.25, linewidth=0.8)
    axes.plot(steps, smoothed(bits, len(bits) / 50), color="C0", label="training, smoothed")
    found = [(e["step"], e["validation"]) for e in entries if "validation" in e]
    if found:
        axes.plot(*zip(*found, strict=True), "o-", color="C1", markersize=4, label="validation")
    for (name, level), style in zip(levels.items(), ("--", ":", "-.") * len(levels), strict=False):
        axes.axhline(level, color="0.4", linestyle=style, linewidth=1, label=name)
    axes.set(xlabel="step", ylabel="bits/char")
    axes.legend()
    figure.savefig(path)


def smoothed(values: Array, span: float) -> Array:
    """Exponential moving average over about ``span`` values; the first ones over fewer.

    Examples
    --------
    >>> smoothed(np.array([4.0, 0.0, 0.0]), span=2.0).round(3)
    array([4.   , 1.333, 0.571])
    """
    keep = 1 - 1 / max(span, 1.0)

    def faded(numbers: Array) -> Array:
        return np.array(list(accumulate(numbers, lambda total, number: keep * total + number)))

    return faded(values) / faded(np.ones(len(values)))
