"""Output of the commands: setup, progress, results and picture of a training, and a bar.

Setup and progress are written to standard error, results to standard output. If standard error is
not a terminal, the progress of a training is a line every few seconds, and that of files is not
shown.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints.pretrained import formats_of
from numpy_xlstm.disk import replacing
from numpy_xlstm.errors import printable, printable_lines
from numpy_xlstm.generation import CharacterTokenizer, Tokenizer
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Budget, Progress, TextSplit, TrainingState

SECONDS_BETWEEN_LINES = 2.0
"""Time between two lines of progress, or more in a long training."""

LARGE = 10**8
"""Size in bytes from which a bar is shown."""


@contextmanager
def silence() -> Iterator[None]:
    """Discard all output within the context."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def say(text: str) -> None:
    """Print a line to standard error, on a terminal broken between words.

    Names in it may contain anything: control characters are escaped, and ``:on:`` stays as it is.
    """
    console = _console()
    options: Any = {"markup": False, "emoji": False, "soft_wrap": not console.is_terminal}
    console.print(printable(text), **options)


def show_setup(description: str, model: Any, split: TextSplit, sizes: Mapping[str, int]) -> None:
    """Print the model, and the texts with their sizes, before a training."""
    say(f"{description}, {model.num_parameters:,} parameters, {model.dtype.name}")
    say(f"can be converted to {', '.join(formats_of(model))}")
    for name, size in sizes.items():
        say(f"read {name}: {size:,} characters")
    say(
        f"text: {len(split.train):,} characters for training, {len(split.validation):,} held "
        f"out, {len(set(split.train))} distinct"
    )
    if not isinstance(split.tokenizer, CharacterTokenizer):
        size, per_token = split.tokenizer.size, len(split.train) / len(split.train_ids)
        say(f"tokens: {size:,} distinct, {per_token:.2f} characters each")
    show_losses(split.tokenizer, split.validation)


def show_losses(tokenizer: Tokenizer, text: str) -> None:
    """Print a note if the ids of a text do not restore it, with some characters that are lost."""
    if (decoded := tokenizer.decode(tokenizer.encode(text))) != text:
        lost = " ".join(map(repr, sorted({*text} - {*decoded})[:9]))
        loss = f"decoding does not restore the text{lost and f', such as {lost}'}"
        say(f"{loss}; bits per character refer to the decoded text")


def show_plan(budget: Budget, directory: Path | None) -> None:
    """Print how long a training takes, and where its result is kept."""
    minutes = None if budget.seconds is None else f"{_clock(budget.seconds)} minutes"
    steps = None if budget.steps is None else f"{budget.steps:,} steps"
    length = " or ".join(filter(None, (minutes, steps)))
    kept = f"saved in {directory}" if directory else "not saved; --out DIR would save it"
    say(f"training for {length}, then results and a sample; the model is {kept}")
    say("the clock starts after the first step, and stands still while the held-out part is read")


@contextmanager
def progress_display() -> Iterator[Callable[[Progress], None]]:
    """Give a function that shows the progress of a training within the context."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    console = _console()
    columns = BarColumn(20), TaskProgressColumn(), TextColumn("{task.fields[stats]}")
    hidden = not console.is_terminal
    bar = Bar(*columns, console=console, transient=True, disable=hidden)
    free = max(console.width - 28, 0)  # columns beyond the bar and the percentage
    first = "first step, off the clock: compiles new kernels"[:free]
    task, due = bar.add_task("training", total=1.0, stats=first), time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal due
        stats = _stats(progress, free if console.is_terminal else 80)
        bar.update(task, completed=progress.fraction, stats=stats)
        if hidden and (time.monotonic() >= due or progress.fraction >= 1):
            due = time.monotonic() + max(SECONDS_BETWEEN_LINES, progress.seconds_left / 50)
            line = f"step {progress.step}  {progress.fraction:4.0%}  {stats}"
            console.print(line, soft_wrap=True)
        if progress.validation is not None:
            result = f"validation {progress.validation:.3f} bits/char"
            console.print(f"step {progress.step}  {result} in {progress.validation_seconds:.1f} s")

    with bar:
        yield show


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def bar_of(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows how many of a total are done; ``unit`` is "cases" or "bytes".

    Few bytes are not shown. Lines may be printed meanwhile.
    """
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console, least = _console(), LARGE if unit == "bytes" else 0
    number = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    options: Any = {"redirect_stdout": sys.stdout.isatty(), "disable": not console.is_terminal}
    columns = BarColumn(20), number, TimeRemainingColumn()
    with Bar(*columns, console=console, transient=True, **options) as bar:
        task = bar.add_task("", visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total >= least)

        yield show


def shown(text: str) -> str:
    """Return a model's text; on a terminal, with control characters escaped."""
    return printable_lines(text) if sys.stdout.isatty() else text


def _stats(progress: Progress, width: int) -> str:
    texts = (
        f"{_clock(progress.seconds_left)} left",
        f"{progress.bits:.2f} bits/char",
        f"{progress.tokens_per_second:,.0f} tokens/s",
        f"loss {progress.loss:.3f}",
        f"|g| {progress.grad_norm:.2f}",
    )
    known = texts if progress.elapsed else (texts[1], *texts[3:])
    fitting = [text for text in accumulate(known, "{}  {}".format) if len(text) <= width]
    return fitting[-1] if fitting else ""


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"


def show_results(bits: Mapping[str, float], state: TrainingState) -> None:
    """Print a table of bits per character on the held-out text, and of the training."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", "", show_header=False, title="results on the held-out text")
    table.columns[1].justify = "right"
    for name, value in bits.items():
        table.add_row(name, f"{value:.3f}", "bits/char")
    if state.step:
        table.add_section()
        table.add_row("training", _clock(state.elapsed), "minutes")
        table.add_row("steps", f"{state.step:,}", "")
        table.add_row("tokens seen", f"{state.tokens:,}", "")
        if state.elapsed:
            table.add_row("speed", f"{state.tokens / state.elapsed:,.0f}", "tokens/s")
    Console(highlight=False).print(table)


def save_picture(
    path: Path,
    entries: Iterable[Mapping[str, Any]],
    name: str,
    unit: str,
    levels: Mapping[str, float],
) -> None:
    """Plot a quantity of a log and the validations over the steps, and levels for comparison."""
    try:
        from matplotlib.figure import Figure
    except ValueError as error:  # MPLBACKEND is not a backend
        say(f"{path.name} is not drawn: {error}")
        return

    keys = "step", name, "validation"
    rows = (tuple(entry.get(key) for key in keys) for entry in entries)  # NaN if absent
    table: Array = np.fromiter(rows, np.dtype((float, 3)))
    steps, values, validations = table.T
    if not steps.size:
        return
    seen = np.isfinite(validations)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    axes.plot(steps, values, color="#0969da", alpha=0.25, linewidth=0.8)
    mean = smoothed(values, steps.size / 50)
    axes.plot(steps, mean, color="#0969da", label="training, smoothed")
    if seen.any():
        points: Any = {"color": "#bc4c00", "markersize": 4, "label": "validation"}
        axes.plot(steps[seen], validations[seen], "o-", **points)
    for (label, level), style in zip(levels.items(), ("--", ":", "-.") * len(levels), strict=False):
        axes.axhline(level, color="0.4", linestyle=style, linewidth=1, label=label)
    axes.set(xlabel="step", ylabel=unit)
    axes.legend(frameon=False)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix("."))


def smoothed(values: Array, span: float) -> Array:
    """Average over about ``span`` values around each, over fewer at the ends, without a delay."""
    from scipy.ndimage import gaussian_filter1d

    both = np.stack((np.asarray(values, float), np.ones(len(values))))
    sums, weights = gaussian_filter1d(both, max(span / 4, 0.05), mode="constant")
    means: Array = sums / weights
    return means
