"""Measure trained models on rows that random strings hardly ever are.

``python -m docs.figures.hard_rows RUNS``: RUNS has a folder for each trial, such as
``parity-slstm-951327``. The accuracies are added to ``docs/hard-rows.jsonl``, which has a line for
each trial; the figure and the table of the page are made from it. Needs the extra ``cli``.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from docs.figures.plots import FIRST, SECOND, STYLE, save
from numpy_xlstm import from_pretrained
from numpy_xlstm.experiments.catalogue import EXPERIMENTS
from numpy_xlstm.experiments.tasks.layout import answered
from numpy_xlstm.experiments.trials import measure
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Batch

TABLE = Path(__file__).parents[1] / "hard-rows.jsonl"
ZEROS = 0, 5, 10, 15, 20, 30, 50, 70, 100, 150, 200
LENGTHS = 40, 80, 160, 256
ROWS = 256


class Skewed:
    """A generator of strings in which nine of ten symbols are the first one."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def integers(self, *limits: Any) -> Array:
        """Return random integers; in a matrix, nine of ten are the first of their row."""
        drawn = np.asarray(self.rng.integers(*limits))
        if drawn.ndim < 2:
            return drawn
        return np.where(self.rng.random(drawn.shape) < 0.9, drawn[:, :1], drawn)


def skewed(sample: Callable[..., Batch]) -> Callable[..., Batch]:
    """Return a task whose strings are skewed."""
    return lambda rng, batch, length: sample(Skewed(rng), batch, length)


def then_zeros(zeros: int) -> Callable[..., Batch]:
    """Return the parity of 40 random bits, of which the last is a one, asked after some zeros."""

    def sample(rng: np.random.Generator, batch: int, length: tuple[int, int]) -> Batch:
        bits = rng.integers(1, 3, (batch, length[0]))
        bits[:, -1] = 2
        strings = np.pad(bits, ((0, 0), (0, zeros)), constant_values=1)
        return answered(strings, np.full(batch, length[0] + zeros), 1 + (bits == 2).sum(1) % 2)

    return sample


def accuracies(name: str, model: Any) -> dict[str, Any]:
    """Return the rescaled accuracies of a model on random and skewed rows, and after zeros."""
    experiment = EXPERIMENTS[name.removesuffix("-own-shares")]
    state: Any = SimpleNamespace(model=model)

    def accuracy(sample: Callable[..., Batch], length: int) -> float:
        changed = experiment._replace(sample=sample)
        return round(1 - measure(changed, state, (length, length), 1_000_000_004, ROWS), 4)

    kinds = {"random": experiment.sample, "skewed": skewed(experiment.sample)}
    results: dict[str, Any] = {
        kind: [accuracy(sample, length) for length in LENGTHS] for kind, sample in kinds.items()
    }
    if experiment is EXPERIMENTS["parity"]:
        results["zeros"] = [accuracy(then_zeros(zeros), 40) for zeros in ZEROS]
    return results


def measured() -> list[dict[str, Any]]:
    """Return the committed results."""
    return [json.loads(line) for line in TABLE.read_text("utf-8").splitlines()]


def add(runs: Path) -> None:
    """Measure the models in a folder, and write the file anew."""
    results = []
    for folder in sorted(runs.iterdir()):
        name, kind, seed = folder.name.rsplit("-", 2)
        model = from_pretrained(folder / "checkpoint.safetensors")
        facts = {"name": name, "model": kind, "seed": int(seed)}
        results.append(facts | accuracies(name, model))
    TABLE.write_text("".join(f"{json.dumps(result)}\n" for result in results), "utf-8")


def table() -> str:
    """Return a table of the accuracies on skewed rows, least to most of all seeds."""
    lines = [
        f"| trained on | model | seeds | {' | '.join(map(str, LENGTHS))} |",
        f"|---|---|--:|{'--:|' * len(LENGTHS)}",
    ]
    trials: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in measured():
        trials.setdefault((result["name"], result["model"]), []).append(result)
    for (name, model), results in trials.items():
        scores = np.sort([result["skewed"] for result in results], axis=0)
        ends = [(f"{low:z.2f}", f"{high:z.2f}") for low, high in scores[[0, -1]].T]
        cells = " | ".join(" to ".join(dict.fromkeys(pair)) for pair in ends)
        lines.append(f"| `{name}` | `{model}` | {len(results)} | {cells} |")
    return "\n".join(lines)


def draw() -> None:
    """The accuracy of parity against the zeros after the last one."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        panes = figure.subplots(1, 2, sharey=True)
        for axes, name in zip(panes, ("parity", "parity-own-shares"), strict=True):
            for model, colour in (("slstm", FIRST), ("lstm", SECOND)):
                axes.plot([], color=colour, label=model.replace("lstm", "LSTM"))
                for result in measured():
                    if (result["name"], result["model"]) == (name, model):
                        axes.plot(ZEROS, result["zeros"], "o-", color=colour, markersize=3)
            axes.set(title=f"trained on {name}", xlabel="zeros after the last one")
        panes[0].set_ylabel("rescaled accuracy")
        panes[0].legend()
        save(figure, "parity-zeros.svg")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        add(Path(sys.argv[1]))
    draw()
