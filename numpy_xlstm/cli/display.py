"""Output of the commands: setup, progress and results of a training, and a bar for large files.

Setup and progress are written to standard error, results to standard output. If standard error is
not a terminal, the progress of a training is a line every few seconds, and that of files is not
shown.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
)
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.disk import replacing
from numpy_xlstm.errors import printable_lines
from numpy_xlstm.generation import CharacterTokenizer
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Progress, TextSplit, TrainingState

SECONDS_BETWEEN_LINES = 10.0

LARGE = 10**8
"""Size in bytes from which a bar is shown."""


@contextmanager
def silent_unless(speaks: bool) -> Iterator[None]:
    """Discard all output within the context if this process is not the one that speaks."""
    with ExitStack() as silence:
        if not speaks:
            nowhere = silence.enter_context(Path(os.devnull).open("w"))
            silence.enter_context(redirect_stdout(nowhere))
            silence.enter_context(redirect_stderr(nowhere))
        yield


def show_setup(description: str, model: Any, split: TextSplit) -> None:
    """Print the model and the text before a training."""
    print(
        f"{description}, {model.num_parameters:,} parameters, {model.dtype.name}\n"
        f"text: {len(split.train):,} characters for training, {len(split.validation):,} held "
        f"out, {len(set(split.train))} distinct",
        file=sys.stderr,
    )
    if isinstance(split.tokenizer, CharacterTokenizer):
        return
    size, per_token = split.tokenizer.size, len(split.train) / len(split.train_ids)
    text = f"tokens: {size:,} distinct, {per_token:.2f} characters each"
    if split.tokenizer.decode(split.validation_ids) != split.validation:
        text += "; decoding does not restore the text: bits per character are of the encoded part"
    print(text, file=sys.stderr)


@contextmanager
def progress_display() -> Iterator[Callable[[Progress], None]]:
    """Give a function that shows the progress of a training within the context."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False)
    columns = (BarColumn(bar_width=None), TaskProgressColumn(), TextColumn("{task.fields[stats]}"))
    bar = Bar(*columns, console=console, expand=True, disable=not console.is_terminal)
    task, due = bar.add_task("training", total=1.0, stats=""), time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal due
        bar.update(task, completed=progress.fraction, stats=_stats(progress))
        if bar.disable and (time.monotonic() >= due or progress.fraction >= 1):
            due = time.monotonic() + SECONDS_BETWEEN_LINES
            line = f"step {progress.step}  {progress.fraction:4.0%}  {_stats(progress)}"
            console.print(line, soft_wrap=True)
        if progress.validation is not None:
            console.print(f"step {progress.step}  validation {progress.validation:.3f} bits/char")

    with bar:
        yield show


def busy_display(text: str) -> AbstractContextManager[object]:
    """Return a context that shows a text on a terminal; nothing may be printed within it."""
    from rich.console import Console

    console = Console(stderr=True)
    return console.status(text) if console.is_terminal else nullcontext()


@contextmanager
def bytes_display(title: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows the number of processed and total bytes, if they are many."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    hidden = not console.is_terminal
    with Bar(*columns, TimeRemainingColumn(), console=console, disable=hidden) as bar:
        task = bar.add_task(title, total=None, visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total >= LARGE)

        yield show


def shown(text: str) -> str:
    """Return a model's text; on a terminal, with control characters escaped."""
    return printable_lines(text) if sys.stdout.isatty() else text


def _stats(progress: Progress) -> str:
    return (
        f"loss {progress.loss:.3f}  {progress.bits:.2f} bits/char  |g| {progress.grad_norm:.2f}  "
        f"{progress.tokens_per_second:,.0f} tokens/s  {_clock(progress.seconds_left)} left"
    )


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
        table.add_row("speed", f"{state.tokens / state.busy:,.0f}", "tokens/s")
    Console(highlight=False).print(table)


FILES = {
    "best.npz": "the model of the best validation, for numpy-xlstm generate and info",
    "checkpoint.npz": "the state of the training, for numpy-xlstm train --resume",
    "log.jsonl": "a line for each step",
    "loss.svg": "a plot of the losses",
}
"""Content of the files of a run."""


def show_files(directory: Path, files: Sequence[Path]) -> None:
    """Print the files of a run."""
    written = [file.name for file in files if file.exists()]
    lines = (f"  {name:16}{FILES[name]}" for name in written)
    print(f"written to {directory}:", *lines, sep="\n", file=sys.stderr)


def save_loss_picture(
    path: Path, entries: Sequence[Mapping[str, Any]], levels: Mapping[str, float]
) -> None:
    """Plot bits per character over steps from the lines of a log, and levels for comparison."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        needed = "the plot needs the plot extra: pip install 'numpy-xlstm[plot]'"
        print(f"no {path.name}: {needed}", file=sys.stderr)
        return
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
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix("."))


def smoothed(values: Array, span: float) -> Array:
    """Average over about ``span`` values around each, over fewer at the ends, without a delay."""
    from scipy.ndimage import gaussian_filter1d

    def around(numbers: Array) -> Array:
        found: Array = gaussian_filter1d(numbers, max(span / 4, 0.05), mode="constant")
        return found

    return around(np.asarray(values, float)) / around(np.ones(len(values)))
